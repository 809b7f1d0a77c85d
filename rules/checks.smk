rule collect_findings:
    """The numbers that the report states in words, each taken from a table of this run."""
    input:
        **stated_files([*FIGURES, *TABLES]),
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
        compared=[*METHODS, RANDOM],
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
        page=files_of_page("report"),
    output:
        report="<results>/report.html",
    log:
        "<logs>/build_report.log",
    params:
        config=report_config,
        code=code_digest("build_report"),
    script:
        "../workflow_scripts/build_report.py"


rule explore:
    """The circuit explorer: circuits, named heads, the showcase's prompt and traces, on one page without references."""
    input:
        page=files_of_page("explorer"),
        showcase="<results>/{model}/circuits/showcase.json",
        nodes="<results>/{model}/components/showcase.json",
        circuits=expand("<results>/{{model}}/circuits/{method}.npz", method=METHODS),
        edited=expand(
            "<results>/{{model}}/edits/circuits/{editor}.npz",
            editor=[UNEDITED, *config["editing"]["circuits"]["editors"]],
        ),
        meta="<results>/{model}/figures/edited_circuits.json",
        heads="<results>/{model}/components/heads.csv",
        traces="<results>/{model}/traces/facts.parquet",
    output:
        page="<results>/{model}/explorer.html",
    log:
        "<logs>/explore/{model}.log",
    localrule: True
    params:
        showcase=lookup(within=config, dpath="showcase"),
        methods=METHODS,
        weights=[UNEDITED, *config["editing"]["circuits"]["editors"]],
        labels={name: editor.label for name, editor in EDITORS.items()},
        code=code_digest("explore"),
    script:
        "../workflow_scripts/explore.py"


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


# Here, since every rule has been read.
keep_between_studies(
    "fetch_model", "find_known_facts", "trace_facts", "estimate_moments"
)
