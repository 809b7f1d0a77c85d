rule trace_facts:
    """Causal traces of known facts, each kept in traces/facts/ as soon as it is done; ROME section 2."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts="<results>/{model}/facts/known.parquet",
    output:
        traces="<results>/{model}/traces/facts.parquet",
    log:
        "<logs>/trace_facts/{model}.log",
    benchmark:
        "<benchmarks>/trace_facts/{model}.tsv"
    threads: 2
    resources:
        mem_mb=model_mb,
        gpu=1,
    params:
        numerics=numerics,
        tracing=tracing_settings,
        seed=lookup(within=config, dpath="seed"),
        code=code_digest("trace_facts"),
    script:
        "../workflow_scripts/trace_facts.py"
