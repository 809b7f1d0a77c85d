rule resample_circuits:
    """A relation's circuit found again, on D_val drawn anew and in its other wordings, where stability asks for it."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts="<results>/{model}/facts/known/{relation}.parquet",
        relation=relation_of_wildcard,
    output:
        circuits="<results>/{model}/circuits/{method}/resampled/{relation}.npz",
    log:
        "<logs>/resample_circuits/{model}/{method}/{relation}.log",
    benchmark:
        "<benchmarks>/resample_circuits/{model}/{method}/{relation}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("resample_circuits"),
        gpu=gpus,
    params:
        load_options=load_options,
        kv=kv_view,
        circuits=method_settings,
        source=lookup(within=config, dpath="relations/source"),
        stability=resampling_settings,
        seed=lookup(within=config, dpath="seed"),
        code=digest_of_resampling,
    script:
        "../workflow_scripts/resample_circuits.py"


rule compare_resamples:
    """What these circuits share, how often each edge is in one, and their consensus, on D_test."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts="<results>/{model}/facts/known/{relation}.parquet",
        circuits="<results>/{model}/circuits/{method}/{relation}.npz",
        resamples="<results>/{model}/circuits/{method}/resampled/{relation}.npz",
    output:
        rows="<results>/{model}/circuits/{method}/stability/{relation}.csv",
        frequencies="<results>/{model}/circuits/{method}/stability/{relation}_frequencies.csv",
        consensus="<results>/{model}/circuits/{method}/stability/{relation}.npz",
    log:
        "<logs>/compare_resamples/{model}/{method}/{relation}.log",
    benchmark:
        "<benchmarks>/compare_resamples/{model}/{method}/{relation}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("compare_resamples"),
        gpu=gpus,
    params:
        load_options=load_options,
        kv=kv_view,
        stability=consensus_settings,
        hits=lookup(within=config, dpath="facts/hits"),
        seed=lookup(within=config, dpath="seed"),
        code=code_digest("compare_resamples"),
    script:
        "../workflow_scripts/compare_resamples.py"


rule gather_stability:
    """The comparisons of circuits found again, of all relations and methods, in one table."""
    input:
        unpack(stability_of_study),
    output:
        rows="<results>/{model}/circuits/stability.csv",
        frequencies="<results>/{model}/circuits/frequencies.csv",
    log:
        "<logs>/gather_stability/{model}.log",
    localrule: True
    params:
        code=code_digest("gather_tables"),
    script:
        "../workflow_scripts/gather_tables.py"
