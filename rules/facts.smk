rule find_known_facts:
    """What the model knows of each relation, and the splits drawn from that; table known_facts."""
    input:
        model="<results>/models/{model}/provenance.json",
        relations=relations_of_study,
    output:
        facts="<results>/{model}/facts/known.parquet",
        summary="<results>/{model}/facts/relations.json",
    log:
        "<logs>/find_known_facts/{model}.log",
    benchmark:
        "<benchmarks>/find_known_facts/{model}.tsv"
    priority: 2  # the longest chain goes through it
    threads: 1
    resources:
        mem_mb=model_mb,
        gpu=gpus,
    params:
        load_options=load_options,
        source=lookup(within=config, dpath="relations/source"),
        on_collision=lookup(within=config, dpath="relations/on_collision"),
        facts=lookup(within=config, dpath="facts"),
        tracing_template=lookup(within=config, dpath="tracing/template"),
        seed=lookup(within=config, dpath="seed"),
        code=code_digest("find_known_facts"),
    script:
        "../workflow_scripts/find_known_facts.py"
