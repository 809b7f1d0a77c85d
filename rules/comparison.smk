rule shrink_circuits:
    """A relation's circuit, and smaller ones that the search finds where it goes on; MIB's sizes."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts="<results>/{model}/facts/known/{relation}.parquet",
        circuits="<results>/{model}/circuits/{method}/{relation}.npz",
    output:
        circuits="<results>/{model}/circuits/{method}/smaller/{relation}.npz",
    log:
        "<logs>/shrink_circuits/{model}/{method}/{relation}.log",
    benchmark:
        "<benchmarks>/shrink_circuits/{model}/{method}/{relation}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("shrink_circuits"),
        gpu=gpus,
    params:
        load_options=load_options,
        kv=kv_view,
        circuits=method_settings,
        seed=lookup(within=config, dpath="seed"),
        code=digest_of_shrinking,
    script:
        "../workflow_scripts/shrink_circuits.py"


rule compare_methods:
    """A relation's circuits of every method and size on D_test: faithfulness, completeness, hit@10; MIB's measures."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts="<results>/{model}/facts/known/{relation}.parquet",
        circuits=compared_circuits,
    output:
        comparison="<results>/{model}/circuits/comparison/{relation}.csv",
    log:
        "<logs>/compare_methods/{model}/{relation}.log",
    benchmark:
        "<benchmarks>/compare_methods/{model}/{relation}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("compare_methods"),
        gpu=gpus,
    params:
        load_options=load_options,
        kv=kv_view,
        methods=METHODS,
        prompts=lookup(within=config, dpath="comparison/prompts"),
        hits=lookup(within=config, dpath="facts/hits"),
        seed=lookup(within=config, dpath="seed"),
        code=digest_of_comparison,
    script:
        "../workflow_scripts/compare_methods.py"


rule gather_comparison:
    """The comparison of methods on all its relations in one table."""
    input:
        comparison=of_relations(
            "circuits/comparison/{relation}.csv", config["comparison"]["relations"]
        ),
    output:
        comparison="<results>/{model}/circuits/comparison.csv",
    log:
        "<logs>/gather_comparison/{model}.log",
    localrule: True
    params:
        code=code_digest("gather_tables"),
    script:
        "../workflow_scripts/gather_tables.py"
