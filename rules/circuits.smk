rule discover_circuits:
    """Circuits of relations on their D_val, and what finding them took; KC section 3."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts="<results>/{model}/facts/known.parquet",
    output:
        circuits="<results>/{model}/circuits/{method}/{shard}.npz",
        seconds="<results>/{model}/circuits/{method}/{shard}_seconds.json",
    log:
        "<logs>/discover_circuits/{model}/{method}/{shard}.log",
    benchmark:
        "<benchmarks>/discover_circuits/{model}/{method}/{shard}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        gpu=gpus,
    params:
        load_options=load_options,
        kv=kv_view,
        relations=relations_of_shard,
        circuits=method_settings,
        seed=lookup(within=config, dpath="seed"),
        code=digest_of_discovery,
    script:
        "../workflow_scripts/discover_circuits.py"


rule gather_circuits:
    """The circuits of a method in one file."""
    input:
        circuits=circuits_of_shards,
        seconds=seconds_of_shards,
    output:
        circuits="<results>/{model}/circuits/{method}.npz",
        seconds="<results>/{model}/circuits/{method}_seconds.json",
    log:
        "<logs>/gather_circuits/{model}/{method}.log",
    localrule: True
    params:
        code=code_digest("gather_circuits"),
    script:
        "../workflow_scripts/gather_circuits.py"


rule evaluate_circuits:
    """What model, circuits and random circuits say on D_val and D_test, zero and mean ablation; KC Table 1."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts="<results>/{model}/facts/known.parquet",
        circuits=expand(
            "<results>/{{model}}/circuits/{method}.npz",
            method=config["circuits"]["methods"],
        ),
    output:
        scores="<results>/{model}/circuits/scores.csv",
    log:
        "<logs>/evaluate_circuits/{model}.log",
    benchmark:
        "<benchmarks>/evaluate_circuits/{model}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        gpu=gpus,
    params:
        load_options=load_options,
        kv=kv_view,
        methods=lookup(within=config, dpath="circuits/methods"),
        taus=taus_of_methods,
        hits=lookup(within=config, dpath="facts/hits"),
        random_seeds=lookup(within=config, dpath="circuits/random_seeds"),
        seed=lookup(within=config, dpath="seed"),
        code=code_digest("evaluate_circuits"),
    script:
        "../workflow_scripts/evaluate_circuits.py"


rule describe_showcase:
    """The showcase fact's circuit as JSON and DOT, its drawing, and its answer through the layers; KC Fig. 1, 3."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts="<results>/{model}/facts/known.parquet",
        relation=relation_of_showcase,
    output:
        circuit="<results>/{model}/circuits/showcase.json",
        expanded="<results>/{model}/circuits/showcase_per_head.json",
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
