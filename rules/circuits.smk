rule discover_circuits:
    """The circuit of a relation on its D_val, and what finding it took; KC section 3."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts="<results>/{model}/facts/known/{relation}.parquet",
    output:
        circuits="<results>/{model}/circuits/{method}/{relation}.npz",
        costs="<results>/{model}/circuits/{method}/{relation}_costs.json",
    log:
        "<logs>/discover_circuits/{model}/{method}/{relation}.log",
    benchmark:
        "<benchmarks>/discover_circuits/{model}/{method}/{relation}.tsv"
    priority: priority_of_discovery
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("discover_circuits"),
        gpu=gpus,
    params:
        load_options=load_options,
        kv=kv_view,
        circuits=method_settings,
        seed=lookup(within=config, dpath="seed"),
        code=digest_of_discovery,
    script:
        "../workflow_scripts/discover_circuits.py"


rule gather_circuits:
    """The circuits of a method in one file."""
    input:
        circuits=circuits_of_method,
        costs=costs_of_method,
    output:
        circuits="<results>/{model}/circuits/{method}.npz",
        costs="<results>/{model}/circuits/{method}_costs.json",
    log:
        "<logs>/gather_circuits/{model}/{method}.log",
    localrule: True
    params:
        code=code_digest("gather_circuits"),
    script:
        "../workflow_scripts/gather_circuits.py"


rule evaluate_circuits:
    """What model, circuits and random circuits say of a relation, zero and mean ablation; KC Table 1."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts="<results>/{model}/facts/known/{relation}.parquet",
        circuits=expand(
            "<results>/{{model}}/circuits/{method}/{{relation}}.npz",
            method=config["circuits"]["methods"],
        ),
    output:
        scores="<results>/{model}/circuits/scores/{relation}.csv",
    log:
        "<logs>/evaluate_circuits/{model}/{relation}.log",
    benchmark:
        "<benchmarks>/evaluate_circuits/{model}/{relation}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("evaluate_circuits"),
        gpu=gpus,
    params:
        load_options=load_options,
        kv=kv_view,
        circuits=settings_of_methods,
        hits=lookup(within=config, dpath="facts/hits"),
        random_seeds=lookup(within=config, dpath="circuits/random_seeds"),
        seed=lookup(within=config, dpath="seed"),
        code=code_digest("evaluate_circuits"),
    script:
        "../workflow_scripts/evaluate_circuits.py"


rule gather_scores:
    """The scores of all relations' circuits in one table."""
    input:
        scores=of_relations("circuits/scores/{relation}.csv"),
    output:
        scores="<results>/{model}/circuits/scores.csv",
    log:
        "<logs>/gather_scores/{model}.log",
    localrule: True
    params:
        code=code_digest("gather_tables"),
    script:
        "../workflow_scripts/gather_tables.py"


rule describe_showcase:
    """The showcase fact's circuit as JSON and DOT, its drawing, and its answer through the layers; KC Fig. 1, 3."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts=facts_of_showcase,
        relation=relation_of_showcase,
    output:
        circuit="<results>/{model}/circuits/showcase.json",
        scores="<results>/{model}/circuits/showcase_scores.csv",
        dot="<results>/{model}/circuits/showcase.dot",
        drawing="<results>/{model}/figures/circuit_graph.json",
        ranks="<results>/{model}/figures/answer_rank_by_layer.csv",
        meta="<results>/{model}/figures/answer_rank_by_layer.json",
    log:
        "<logs>/describe_showcase/{model}.log",
    benchmark:
        "<benchmarks>/describe_showcase/{model}.tsv"
    priority: 2  # the longest chain: an exact search, then those of the edited models
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("describe_showcase"),
        gpu=gpus,
    params:
        load_options=load_options,
        kv=kv_view,
        source=lookup(within=config, dpath="relations/source"),
        showcase=lookup(within=config, dpath="showcase"),
        circuits=showcase_settings,
        hits=lookup(within=config, dpath="facts/hits"),
        random_seeds=lookup(within=config, dpath="circuits/random_seeds"),
        drawn_edges=lookup(within=config, dpath="circuits/drawn_edges"),
        heads=lookup(within=config, dpath="heads"),
        seed=lookup(within=config, dpath="seed"),
        code=method_digest("describe_showcase", config["showcase"]["method"]),
    script:
        "../workflow_scripts/describe_showcase.py"
