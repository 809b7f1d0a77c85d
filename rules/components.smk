rule count_components:
    """How much of each relation's circuit lies in the heads and the MLP of each layer; KC Fig. 2."""
    input:
        facts="<results>/{model}/facts/known.parquet",
        circuits=expand(
            "<results>/{{model}}/circuits/{method}.npz",
            method=config["circuits"]["methods"][:1],
        ),
        model="<results>/models/{model}/provenance.json",
    output:
        components="<results>/{model}/figures/component_distribution.csv",
    log:
        "<logs>/count_components/{model}.log",
    params:
        kv=kv_view,
        method=lookup(within=config, dpath="circuits/methods")[0],
        code=code_digest("count_components"),
    script:
        "../workflow_scripts/count_components.py"


rule name_heads:
    """Mover, relation and mixture heads of every relation, and what depends on them; KC section 4.3."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts="<results>/{model}/facts/known.parquet",
        relations=relations_of_study,
        circuits=expand(
            "<results>/{{model}}/circuits/{method}.npz",
            method=config["circuits"]["methods"][:1],
        ),
    output:
        heads="<results>/{model}/components/heads.csv",
        ablation="<results>/{model}/components/ablation.csv",
        tokens="<results>/{model}/figures/head_ablation_tokens.csv",
        meta="<results>/{model}/figures/head_ablation_tokens.json",
    log:
        "<logs>/name_heads/{model}.log",
    benchmark:
        "<benchmarks>/name_heads/{model}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        gpu=gpus,
    params:
        load_options=load_options,
        kv=kv_view,
        source=lookup(within=config, dpath="relations/source"),
        method=lookup(within=config, dpath="circuits/methods")[0],
        heads=lookup(within=config, dpath="heads"),
        components=lookup(within=config, dpath="components"),
        hits=lookup(within=config, dpath="facts/hits"),
        showcase=lookup(within=config, dpath="showcase"),
        seed=lookup(within=config, dpath="seed"),
        code=code_digest("name_heads"),
    script:
        "../workflow_scripts/name_heads.py"


rule rank_answers:
    """The rank of known answers through the layers, at the subject and at the last position; KC section 4.2."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts="<results>/{model}/facts/known.parquet",
        relations=relations_of_study,
    output:
        ranks="<results>/{model}/components/ranks.parquet",
    log:
        "<logs>/rank_answers/{model}.log",
    benchmark:
        "<benchmarks>/rank_answers/{model}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        gpu=gpus,
    params:
        load_options=load_options,
        source=lookup(within=config, dpath="relations/source"),
        facts=lookup(within=config, dpath="components/facts"),
        seed=lookup(within=config, dpath="seed"),
        code=code_digest("rank_answers"),
    script:
        "../workflow_scripts/rank_answers.py"
