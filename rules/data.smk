rule fetch_model:
    """The model as a Hugging Face folder; provenance.json is written last."""
    input:
        source=files_of_source,
    output:
        **files_of_model(),
    log:
        "<logs>/fetch_model/{model}.log",
    benchmark:
        "<benchmarks>/fetch_model/{model}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("fetch_model"),
    params:
        row=model_row,
        half=half_precision,
        code=code_digest("fetch_model"),
    script:
        "../workflow_scripts/fetch_model.py"


rule fetch_dataset:
    """An upstream file (a relation of LRE, CounterFact, a published circuit), from its address or from the mirror."""
    output:
        data="<results>/data/{dataset}",
    log:
        "<logs>/fetch_dataset/{dataset}.log",
    localrule: True
    params:
        source=dataset_params,
        code=code_digest("fetch_dataset"),
    script:
        "../workflow_scripts/fetch_dataset.py"


rule estimate_moments:
    """Second moments of the MLP keys of all layers, for ROME."""
    input:
        model="<results>/models/{model}/provenance.json",
        corpus=corpus_of_moments,
    output:
        summary="<results>/{model}/moments/moments.json",
        layers=directory("<results>/{model}/moments/layers"),
    log:
        "<logs>/estimate_moments/{model}.log",
    benchmark:
        "<benchmarks>/estimate_moments/{model}.tsv"
    priority: 2  # the longest chain goes through it
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("estimate_moments"),
        gpu=gpus,
    params:
        load_options=load_options,
        moments=lookup(within=config, dpath="moments"),
        seed=lookup(within=config, dpath="seed"),
        code=code_digest("estimate_moments"),
    script:
        "../workflow_scripts/estimate_moments.py"
