rule screen_known_1000:
    """Which facts of ROME's known_1000 can be traced on this model, and why the others cannot; ROME section 2."""
    input:
        model="<results>/models/{model}/provenance.json",
        known_1000="<results>/data/rome/known_1000.json",
    output:
        facts="<results>/{model}/facts/known_1000.parquet",
        left_out="<results>/{model}/traces/left_out.csv",
    log:
        "<logs>/screen_known_1000/{model}.log",
    benchmark:
        "<benchmarks>/screen_known_1000/{model}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        gpu=gpus,
    params:
        load_options=load_options,
        code=code_digest("screen_known_1000"),
    script:
        "../workflow_scripts/screen_known_1000.py"


rule trace_facts:
    """Causal traces of known facts, each kept in traces/facts/ as soon as it is done; ROME section 2."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts=facts_of_tracing,
    output:
        traces="<results>/{model}/traces/facts.parquet",
    log:
        "<logs>/trace_facts/{model}.log",
    benchmark:
        "<benchmarks>/trace_facts/{model}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        gpu=gpus,
    params:
        load_options=load_options,
        tracing=tracing_settings,
        seed=lookup(within=config, dpath="seed"),
        code=code_digest("trace_facts"),
    script:
        "../workflow_scripts/trace_facts.py"
