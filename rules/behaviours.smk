rule study_hallucination:
    """A wrong answer of the right type beside a right one of the same relation; KC Fig. 5, left."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts="<results>/{model}/facts/known.parquet",
    output:
        ranks="<results>/{model}/figures/hallucination.csv",
        meta="<results>/{model}/figures/hallucination.json",
    log:
        "<logs>/study_hallucination/{model}.log",
    benchmark:
        "<benchmarks>/study_hallucination/{model}.tsv"
    threads: 2
    resources:
        mem_mb=model_mb,
        gpu=1,
    params:
        numerics=numerics,
        heads=lookup(within=config, dpath="heads"),
        code=code_digest("study_hallucination"),
    script:
        "../workflow_scripts/study_hallucination.py"


rule study_in_context:
    """Heads that a demonstration brings into the circuit, and their ablation; KC Fig. 5, right, and Table 2."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts="<results>/{model}/facts/known.parquet",
        relations=relations_of_study,
    output:
        ablation="<results>/{model}/circuits/icl_ablation.csv",
        attention="<results>/{model}/figures/icl_attention.csv",
        meta="<results>/{model}/figures/icl_attention.json",
    log:
        "<logs>/study_in_context/{model}.log",
    benchmark:
        "<benchmarks>/study_in_context/{model}.tsv"
    threads: 2
    resources:
        mem_mb=model_mb,
        gpu=1,
    params:
        numerics=numerics,
        kv=kv_view,
        source=lookup(within=config, dpath="relations/source"),
        icl=lookup(within=config, dpath="icl"),
        hits=lookup(within=config, dpath="facts/hits"),
        method=lookup(within=config, dpath="circuits/methods")[0],
        share=lookup(within=config, dpath="circuits/share"),
        seed=lookup(within=config, dpath="seed"),
        code=code_digest("study_in_context"),
    script:
        "../workflow_scripts/study_in_context.py"
