rule collect_findings:
    """The numbers that the report states in words, each taken from a table of this run."""
    input:
        known="<results>/{model}/tables/known_facts.csv",
        effects="<results>/{model}/tables/causal_effects.csv",
        severed="<results>/{model}/tables/causal_effects_severed.csv",
        circuits="<results>/{model}/tables/circuit_hit_at_10.csv",
        editing="<results>/{model}/tables/editing_scores.csv",
        questions="<results>/{model}/tables/zsre_scores.csv",
        sweep="<results>/{model}/figures/editing_sweep.csv",
        icl="<results>/{model}/tables/icl_head_ablation.csv",
        drawing="<results>/{model}/figures/circuit_graph.json",
        ranks="<results>/{model}/figures/answer_rank_by_layer.csv",
        edited="<results>/{model}/figures/edited_circuits.csv",
        heads="<results>/{model}/tables/special_components.csv",
        ablation="<results>/{model}/tables/head_ablation.csv",
        overlap="<results>/{model}/tables/edited_circuit_overlap.csv",
        claims="<results>/{model}/tables/claims.csv",
        wrong="<results>/{model}/tables/hallucination_heads.csv",
        hops="<results>/{model}/tables/hops.csv",
        both_ways="<results>/{model}/tables/reverse_relations.csv",
        tokens="<results>/{model}/figures/head_ablation_tokens.csv",
        token_meta="<results>/{model}/figures/head_ablation_tokens.json",
        hallucination="<results>/{model}/figures/hallucination.json",
        attention="<results>/{model}/figures/icl_attention.json",
    output:
        findings="<results>/{model}/findings.json",
    log:
        "<logs>/collect_findings/{model}.log",
    params:
        code=code_digest("collect_findings"),
    script:
        "../workflow_scripts/collect_findings.py"


rule write_manifest:
    """What this study promises: its models, figures and tables."""
    output:
        manifest="<results>/manifest.json",
    log:
        "<logs>/write_manifest.log",
    params:
        models=lookup(within=config, dpath="models"),
        figures=[item.name for item in FIGURES if not item.together],
        figures_of_all=[
            item.name.removeprefix("all_") for item in FIGURES if item.together
        ],
        tables=[item.name for item in TABLES],
        methods=lookup(within=config, dpath="circuits/methods"),
        compared=METHODS,
        editors=lookup(within=config, dpath="editing/editors"),
        code=code_digest("write_manifest"),
    script:
        "../workflow_scripts/write_manifest.py"


rule build_report:
    """The report: every figure and table with its caption, in one file without outside references."""
    input:
        manifest="<results>/manifest.json",
        figures=figures_of_study,
        tables=tables_of_study,
        findings=expand("<results>/{model}/findings.json", model=config["models"]),
        provenance=expand(
            "<results>/models/{model}/provenance.json", model=config["models"]
        ),
        captions=captions_of_study,
    output:
        report="<results>/report.html",
    log:
        "<logs>/build_report.log",
    params:
        config=report_config,
        code=code_digest("build_report"),
    script:
        "../workflow_scripts/build_report.py"


rule check_artifacts:
    """Verify that every promised artifact exists, opens, has its columns, and is finite and in range."""
    input:
        manifest="<results>/manifest.json",
        report="<results>/report.html",
        figures=figures_of_study,
        tables=tables_of_study,
    output:
        checks="<results>/checks.json",
    log:
        "<logs>/check_artifacts.log",
    params:
        code=code_digest("check_artifacts"),
    script:
        "../workflow_scripts/check_artifacts.py"
