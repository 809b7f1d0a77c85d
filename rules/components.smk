rule count_components:
    """How much of each relation's circuit lies in the heads and the MLP of each layer; KC Fig. 2."""
    input:
        facts="<results>/{model}/facts/known.parquet",
        circuits=expand(
            "<results>/{{model}}/circuits/{method}.npz",
            method=config["circuits"]["methods"][:1],
        ),
        model="<results>/models/{model}/provenance.json",
    output:
        components="<results>/{model}/figures/component_distribution.csv",
    log:
        "<logs>/count_components/{model}.log",
    params:
        kv=kv_view,
        method=lookup(within=config, dpath="circuits/methods")[0],
        code=code_digest("count_components"),
    script:
        "../workflow_scripts/count_components.py"


rule name_heads:
    """Mover, relation and mixture heads of a relation, and what depends on them; KC 4, B.2."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts="<results>/{model}/facts/known/{relation}.parquet",
        relation=relation_of_wildcard,
        circuits=first_circuits_of_relation,
    output:
        heads="<results>/{model}/components/heads/{relation}.csv",
        ablation="<results>/{model}/components/ablation/{relation}.csv",
    log:
        "<logs>/name_heads/{model}/{relation}.log",
    benchmark:
        "<benchmarks>/name_heads/{model}/{relation}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("name_heads"),
        gpu=gpus,
    params:
        load_options=load_options,
        kv=kv_view,
        source=lookup(within=config, dpath="relations/source"),
        method=lookup(within=config, dpath="circuits/methods")[0],
        heads=lookup(within=config, dpath="heads"),
        components=lookup(within=config, dpath="components"),
        hits=lookup(within=config, dpath="facts/hits"),
        seed=lookup(within=config, dpath="seed"),
        code=code_digest("name_heads"),
    script:
        "../workflow_scripts/name_heads.py"


rule gather_heads:
    """The named heads of all relations, and what depends on them."""
    input:
        heads=of_relations("components/heads/{relation}.csv"),
        ablation=of_relations("components/ablation/{relation}.csv"),
    output:
        heads="<results>/{model}/components/heads.csv",
        ablation="<results>/{model}/components/ablation.csv",
    log:
        "<logs>/gather_heads/{model}.log",
    localrule: True
    params:
        code=code_digest("gather_tables"),
    script:
        "../workflow_scripts/gather_tables.py"


rule ablate_showcase_heads:
    """The showcase's next token without its mover or relation head; KC Fig. 6."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts=facts_of_showcase,
        relation=relation_of_showcase,
    output:
        tokens="<results>/{model}/figures/head_ablation_tokens.csv",
        meta="<results>/{model}/figures/head_ablation_tokens.json",
    log:
        "<logs>/ablate_showcase_heads/{model}.log",
    benchmark:
        "<benchmarks>/ablate_showcase_heads/{model}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("ablate_showcase_heads"),
        gpu=gpus,
    params:
        load_options=load_options,
        source=lookup(within=config, dpath="relations/source"),
        heads=lookup(within=config, dpath="heads"),
        showcase=lookup(within=config, dpath="showcase"),
        code=code_digest("ablate_showcase_heads"),
    script:
        "../workflow_scripts/ablate_showcase_heads.py"


rule read_showcase:
    """Every head and MLP on the showcase's prompt: attention, tokens, roles; for the explorer."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts=facts_of_showcase,
        relation=relation_of_showcase,
    output:
        nodes="<results>/{model}/components/showcase.json",
    log:
        "<logs>/read_showcase/{model}.log",
    benchmark:
        "<benchmarks>/read_showcase/{model}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("read_showcase"),
        gpu=gpus,
    params:
        load_options=load_options,
        source=lookup(within=config, dpath="relations/source"),
        heads=lookup(within=config, dpath="heads"),
        showcase=lookup(within=config, dpath="showcase"),
        code=code_digest("read_showcase"),
    script:
        "../workflow_scripts/read_showcase.py"


rule rank_answers:
    """The rank of a relation's known answers through the layers, at the subject and at the last position; KC 4, B.1."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts="<results>/{model}/facts/known/{relation}.parquet",
        relation=relation_of_wildcard,
    output:
        ranks="<results>/{model}/components/ranks/{relation}.parquet",
    log:
        "<logs>/rank_answers/{model}/{relation}.log",
    benchmark:
        "<benchmarks>/rank_answers/{model}/{relation}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("rank_answers"),
        gpu=gpus,
    params:
        load_options=load_options,
        source=lookup(within=config, dpath="relations/source"),
        facts=lookup(within=config, dpath="components/facts"),
        seed=lookup(within=config, dpath="seed"),
        code=code_digest("rank_answers"),
    script:
        "../workflow_scripts/rank_answers.py"


rule gather_ranks:
    """The ranks of all relations' answers through the layers."""
    input:
        ranks=of_relations("components/ranks/{relation}.parquet"),
    output:
        ranks="<results>/{model}/components/ranks.parquet",
    log:
        "<logs>/gather_ranks/{model}.log",
    localrule: True
    params:
        code=code_digest("gather_tables"),
    script:
        "../workflow_scripts/gather_tables.py"
