rule find_known_facts:
    """What the model knows of a relation, and the splits drawn from that."""
    input:
        model="<results>/models/{model}/provenance.json",
        relation=relation_of_wildcard,
    output:
        facts="<results>/{model}/facts/known/{relation}.parquet",
        summary="<results>/{model}/facts/known/{relation}.json",
    log:
        "<logs>/find_known_facts/{model}/{relation}.log",
    benchmark:
        "<benchmarks>/find_known_facts/{model}/{relation}.tsv"
    priority: 2  # the longest chain goes through it
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("find_known_facts"),
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


rule gather_facts:
    """What the model knows of all relations; table known_facts."""
    input:
        facts=of_relations("facts/known/{relation}.parquet"),
        summaries=of_relations("facts/known/{relation}.json"),
    output:
        facts="<results>/{model}/facts/known.parquet",
        summary="<results>/{model}/facts/relations.json",
    log:
        "<logs>/gather_facts/{model}.log",
    localrule: True
    params:
        relations=lookup(within=config, dpath="relations/names"),
        code=code_digest("gather_facts"),
    script:
        "../workflow_scripts/gather_facts.py"
