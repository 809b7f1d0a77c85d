rule count_components:
    """How often the heads and MLPs of each layer take part in a category's circuits; KC Fig. 2."""
    input:
        facts="<results>/{model}/facts/known.parquet",
        circuits=expand(
            "<results>/{{model}}/circuits/{method}.npz",
            method=config["circuits"]["methods"][:1],
        ),
        model="<results>/models/{model}/provenance.json",
    output:
        frequency="<results>/{model}/figures/component_distribution.csv",
    log:
        "<logs>/count_components/{model}.log",
    params:
        kv=kv_view,
        method=lookup(within=config, dpath="circuits/methods")[0],
        code=code_digest("count_components"),
    script:
        "../workflow_scripts/count_components.py"
