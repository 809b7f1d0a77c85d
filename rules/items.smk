"""One rule for each figure and table of the registry (knowcirc/items): `plot_NAME` and `tabulate_NAME`."""

for item in FIGURES:

    rule:
        name:
            f"plot_{item.name}"
        input:
            **inputs_of(item, PARTS, own),
        output:
            **figure_files(item)
            | {
                "png": report(
                    figure_files(item)["png"],
                    caption=f"captions/{item.name}.rst",
                    category="Figures",
                    subcategory="all models" if item.together else "{model}",
                )
            },
        log:
            log_of(item),
        params:
            item=functions_of(item),
            of=names_of(item, PARTS),
            settings=settings_of(item),
            code=item_digest("plot_item", item),
        script:
            "../workflow_scripts/plot_item.py"


for item in TABLES:

    rule:
        name:
            f"tabulate_{item.name}"
        input:
            **inputs_of(item, PARTS, own),
        output:
            csv=f"<results>/{{model}}/tables/{item.name}.csv",
            tex=f"<results>/{{model}}/tables/{item.name}.tex",
        log:
            log_of(item),
        params:
            item=functions_of(item),
            of=names_of(item, PARTS),
            settings=settings_of(item),
            code=item_digest("tabulate_item", item),
        script:
            "../workflow_scripts/tabulate_item.py"
