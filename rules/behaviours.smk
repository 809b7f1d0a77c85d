rule study_hallucination:
    """A wrong answer of the right type beside a right one of the same relation; KC Fig. 5, left."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts="<results>/{model}/facts/known.parquet",
        heads="<results>/{model}/components/heads.csv",
    output:
        ranks="<results>/{model}/figures/hallucination.csv",
        meta="<results>/{model}/figures/hallucination.json",
    log:
        "<logs>/study_hallucination/{model}.log",
    benchmark:
        "<benchmarks>/study_hallucination/{model}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("study_hallucination"),
        gpu=gpus,
    params:
        load_options=load_options,
        heads=lookup(within=config, dpath="heads"),
        code=code_digest("study_hallucination"),
    script:
        "../workflow_scripts/study_hallucination.py"


rule study_in_context:
    """Heads that demonstrations bring into a relation's circuit, and their ablation; KC Fig. 5, right, and Table 2."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts="<results>/{model}/facts/known/{relation}.parquet",
        relation=relation_of_wildcard,
        circuits=first_circuits_of_relation,
    output:
        row="<results>/{model}/behaviours/in_context/{relation}.csv",
        attention="<results>/{model}/behaviours/in_context/attention/{relation}.csv",
        meta="<results>/{model}/behaviours/in_context/{relation}.json",
    log:
        "<logs>/study_in_context/{model}/{relation}.log",
    benchmark:
        "<benchmarks>/study_in_context/{model}/{relation}.tsv"
    priority: 1  # long searches: what is short fills in behind them
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("study_in_context"),
        gpu=gpus,
    params:
        load_options=load_options,
        kv=kv_view,
        source=lookup(within=config, dpath="relations/source"),
        icl=icl_counts,
        hits=lookup(within=config, dpath="facts/hits"),
        circuits=analysis_settings,
        seed=lookup(within=config, dpath="seed"),
        code=method_digest("study_in_context", config["circuits"]["methods"][0]),
    script:
        "../workflow_scripts/study_in_context.py"


rule gather_in_context:
    """The ablation of all relations, and the attention of the relation whose fact is mended most."""
    input:
        rows=of_relations(
            "behaviours/in_context/{relation}.csv", config["icl"]["relations"]
        ),
        attention=of_relations(
            "behaviours/in_context/attention/{relation}.csv",
            config["icl"]["relations"],
        ),
        metas=of_relations(
            "behaviours/in_context/{relation}.json", config["icl"]["relations"]
        ),
    output:
        ablation="<results>/{model}/circuits/icl_ablation.csv",
        attention="<results>/{model}/figures/icl_attention.csv",
        meta="<results>/{model}/figures/icl_attention.json",
    log:
        "<logs>/gather_in_context/{model}.log",
    localrule: True
    params:
        code=code_digest("gather_in_context"),
    script:
        "../workflow_scripts/gather_in_context.py"


rule read_wrong_answers:
    """Wrong answers of the right type beside right ones, over all relations; KC 6, C.2."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts="<results>/{model}/facts/known.parquet",
        heads="<results>/{model}/components/heads.csv",
    output:
        cases="<results>/{model}/behaviours/wrong_answers.parquet",
    log:
        "<logs>/read_wrong_answers/{model}.log",
    benchmark:
        "<benchmarks>/read_wrong_answers/{model}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("read_wrong_answers"),
        gpu=gpus,
    params:
        load_options=load_options,
        cases=lookup(within=config, dpath="hallucination/cases"),
        heads=lookup(within=config, dpath="heads"),
        seed=lookup(within=config, dpath="seed"),
        code=code_digest("read_wrong_answers"),
    script:
        "../workflow_scripts/read_wrong_answers.py"


rule study_hops:
    """Facts in two hops, of one composition; KC C.1."""
    input:
        model="<results>/models/{model}/provenance.json",
        relations=relations_of_composition,
    output:
        answers="<results>/{model}/behaviours/hops/{composition}.json",
        circuits="<results>/{model}/behaviours/hops/{composition}.npz",
    log:
        "<logs>/study_hops/{model}/{composition}.log",
    benchmark:
        "<benchmarks>/study_hops/{model}/{composition}.tsv"
    priority: 1  # long searches: what is short fills in behind them
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("study_hops"),
        gpu=gpus,
    params:
        load_options=load_options,
        kv=kv_view,
        source=lookup(within=config, dpath="relations/source"),
        circuits=analysis_settings,
        composition=composition_of_wildcard,
        facts=lookup(within=config, dpath="hops/facts"),
        d_val=lookup(within=config, dpath="hops/d_val"),
        seed=lookup(within=config, dpath="seed"),
        code=method_digest("study_hops", config["circuits"]["methods"][0]),
    script:
        "../workflow_scripts/study_hops.py"


rule compare_hops:
    """How the circuits of the hops overlap; KC C.1."""
    input:
        model="<results>/models/{model}/provenance.json",
        answers=of_each("behaviours/hops/{composition}.json", composition=COMPOSITIONS),
        studied=of_each("behaviours/hops/{composition}.npz", composition=COMPOSITIONS),
        circuits=circuits_of_first_method,
    output:
        hops="<results>/{model}/behaviours/hops.csv",
    log:
        "<logs>/compare_hops/{model}.log",
    params:
        kv=kv_view,
        method=lookup(within=config, dpath="circuits/methods")[0],
        hits=lookup(within=config, dpath="facts/hits"),
        direct=DIRECT_RELATIONS,
        code=code_digest("compare_hops"),
    script:
        "../workflow_scripts/compare_hops.py"


rule study_reverse_relations:
    """Facts of a relation asked forward and backward; KC C.3."""
    input:
        model="<results>/models/{model}/provenance.json",
        relation=relation_of_wildcard,
    output:
        answers="<results>/{model}/behaviours/both_ways/{relation}.json",
        circuits="<results>/{model}/behaviours/both_ways/{relation}.npz",
    log:
        "<logs>/study_reverse_relations/{model}/{relation}.log",
    benchmark:
        "<benchmarks>/study_reverse_relations/{model}/{relation}.tsv"
    priority: 1  # long searches: what is short fills in behind them
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("study_reverse_relations"),
        gpu=gpus,
    params:
        load_options=load_options,
        kv=kv_view,
        source=lookup(within=config, dpath="relations/source"),
        circuits=analysis_settings,
        template=reverse_template,
        facts=lookup(within=config, dpath="reverse/facts"),
        d_val=lookup(within=config, dpath="reverse/d_val"),
        seed=lookup(within=config, dpath="seed"),
        code=method_digest("study_reverse_relations", config["circuits"]["methods"][0]),
    script:
        "../workflow_scripts/study_reverse_relations.py"


rule compare_both_ways:
    """How the circuits of facts asked forward and backward overlap; KC C.3."""
    input:
        model="<results>/models/{model}/provenance.json",
        answers=of_relations(
            "behaviours/both_ways/{relation}.json", config["reverse"]["relations"]
        ),
        studied=of_relations(
            "behaviours/both_ways/{relation}.npz", config["reverse"]["relations"]
        ),
        circuits=circuits_of_first_method,
    output:
        both_ways="<results>/{model}/behaviours/both_ways.csv",
    log:
        "<logs>/compare_both_ways/{model}.log",
    params:
        kv=kv_view,
        method=lookup(within=config, dpath="circuits/methods")[0],
        hits=lookup(within=config, dpath="facts/hits"),
        code=code_digest("compare_both_ways"),
    script:
        "../workflow_scripts/compare_both_ways.py"
