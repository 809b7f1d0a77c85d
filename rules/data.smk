rule fetch_model:
    """The model as a Hugging Face folder; provenance.json is written last."""
    output:
        provenance="<results>/models/{model}/provenance.json",
    params:
        row=model_row,
        mirror=lookup(within=config, dpath="mirror"),
        offline=lookup(within=config, dpath="offline"),
        code=code_digest("fetch_model"),
    log:
        "<logs>/fetch_model/{model}.log",
    benchmark:
        "<benchmarks>/fetch_model/{model}.tsv"
    threads: 2
    resources:
        mem_mb=model_mb,
    script:
        "../workflow_scripts/fetch_model.py"


rule fetch_relation:
    """One relation of LRE, from its public address at a pinned commit or from the mirror."""
    localrule: True
    output:
        relation="<results>/data/lre/{category}/{relation}.json",
    params:
        source=dataset_params,
        mirror=lookup(within=config, dpath="mirror"),
        offline=lookup(within=config, dpath="offline"),
        code=code_digest("fetch_relation"),
    log:
        "<logs>/fetch_relation/{category}/{relation}.log",
    script:
        "../workflow_scripts/fetch_relation.py"


rule estimate_moments:
    """Second moments of the MLP keys of all layers, for ROME."""
    input:
        model="<results>/models/{model}/provenance.json",
    output:
        summary="<results>/{model}/moments/moments.json",
        layers=directory("<results>/{model}/moments/layers"),
    params:
        numerics=numerics,
        moments=lookup(within=config, dpath="moments"),
        seed=lookup(within=config, dpath="seed"),
        code=code_digest("estimate_moments"),
    log:
        "<logs>/estimate_moments/{model}.log",
    benchmark:
        "<benchmarks>/estimate_moments/{model}.tsv"
    threads: 2
    resources:
        mem_mb=model_mb,
        gpu=1,
    script:
        "../workflow_scripts/estimate_moments.py"
