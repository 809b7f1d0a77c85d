rule compare_methods:
    """Circuits of every method and size on D_test: faithfulness, completeness, hit@10; MIB's measures."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts="<results>/{model}/facts/known.parquet",
        circuits=expand(
            "<results>/{{model}}/circuits/{method}.npz",
            method=METHODS,
        ),
    output:
        comparison="<results>/{model}/circuits/comparison.csv",
    log:
        "<logs>/compare_methods/{model}.log",
    benchmark:
        "<benchmarks>/compare_methods/{model}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        gpu=gpus,
    params:
        load_options=load_options,
        kv=kv_view,
        methods=METHODS,
        relations=lookup(within=config, dpath="comparison/relations"),
        prompts=lookup(within=config, dpath="comparison/prompts"),
        hits=lookup(within=config, dpath="facts/hits"),
        seed=lookup(within=config, dpath="seed"),
        code=digest_of_comparison,
    script:
        "../workflow_scripts/compare_methods.py"
