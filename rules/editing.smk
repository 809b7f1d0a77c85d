rule build_records:
    """Counterfactual records from facts that the model knows, and the sampled contexts of ROME."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts=facts_of_records,
        relations=relations_of_records,
        counterfact=of_counterfact(*COUNTERFACT),
    output:
        records="<results>/{model}/edits/records.json",
    log:
        "<logs>/build_records/{model}.log",
    benchmark:
        "<benchmarks>/build_records/{model}.tsv"
    priority: 2  # the longest chain goes through it
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("build_records"),
        gpu=gpus,
    params:
        load_options=load_options,
        source=lookup(within=config, dpath="relations/source"),
        relations=lookup(within=config, dpath="editing/relations"),
        records_from=lookup(within=config, dpath="editing/source"),
        records=lookup(within=config, dpath="editing/records"),
        sweep_records=lookup(within=config, dpath="editing/sweep/records"),
        more_records=records_of_sequence,
        neighbours=lookup(within=config, dpath="editing/neighbours"),
        prefixes=lookup(within=config, dpath="editing/prefixes"),
        prefix_top_k=lookup(within=config, dpath="editing/prefix_top_k"),
        order=lookup(within=config, dpath="editing/order"),
        seed=lookup(within=config, dpath="seed"),
        code=code_digest("build_records"),
    script:
        "../workflow_scripts/build_records.py"


rule sweep_edits:
    """ROME at many layers and tokens, on one record; ROME Fig. 5."""
    input:
        model="<results>/models/{model}/provenance.json",
        records="<results>/{model}/edits/records.json",
        moments="<results>/{model}/moments/moments.json",
        layers=[],
    output:
        rows="<results>/{model}/edits/sweep/layers/{part}.csv",
    log:
        "<logs>/sweep_edits/{model}/{part}.log",
    benchmark:
        "<benchmarks>/sweep_edits/{model}/{part}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("sweep_edits"),
        gpu=gpus,
    params:
        load_options=load_options,
        settings=rome_settings,
        sweep=lookup(within=config, dpath="editing/sweep"),
        code=editing_digest("sweep_edits", ROME_ITSELF),
    script:
        "../workflow_scripts/sweep_edits.py"


rule sweep_clamps:
    """ROME at the best layer of all records, by several clamps, on one record."""
    input:
        model="<results>/models/{model}/provenance.json",
        records="<results>/{model}/edits/records.json",
        moments="<results>/{model}/moments/moments.json",
        layers=of_parts(
            "edits/sweep/layers/{part}.csv", config["editing"]["sweep"]["records"], 1
        ),
    output:
        rows="<results>/{model}/edits/sweep/clamps/{part}.csv",
    log:
        "<logs>/sweep_clamps/{model}/{part}.log",
    benchmark:
        "<benchmarks>/sweep_clamps/{model}/{part}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("sweep_clamps"),
        gpu=gpus,
    params:
        load_options=load_options,
        settings=rome_settings,
        sweep=lookup(within=config, dpath="editing/sweep"),
        code=editing_digest("sweep_edits", ROME_ITSELF),
    script:
        "../workflow_scripts/sweep_edits.py"


rule summarise_sweep:
    """The sweep's means over records; ROME Fig. 5."""
    input:
        layers=of_parts(
            "edits/sweep/layers/{part}.csv", config["editing"]["sweep"]["records"], 1
        ),
        clamps=of_parts(
            "edits/sweep/clamps/{part}.csv", config["editing"]["sweep"]["records"], 1
        ),
    output:
        sweep="<results>/{model}/edits/sweep.csv",
    log:
        "<logs>/summarise_sweep/{model}.log",
    params:
        clamp=clamp_of_sweep,
        code=code_digest("summarise_sweep"),
    script:
        "../workflow_scripts/summarise_sweep.py"


rule choose_edit_layer:
    """Where the study edits: ROME's layer and clamp from editors.tsv, or the sweep's best where no layer stands there."""
    input:
        sweep=sweep_of_new_model,
    output:
        edit_layer="<results>/{model}/edits/edit_layer.json",
    log:
        "<logs>/choose_edit_layer/{model}.log",
    params:
        layer=layer_of_rome,
        clamp=clamp_of_rome,
        code=code_digest("choose_edit_layer"),
    script:
        "../workflow_scripts/choose_edit_layer.py"


rule edit_facts:
    """Some records edited by one editor, judged, and undone; `none` judges the model as it is. ROME Table 4."""
    input:
        model="<results>/models/{model}/provenance.json",
        records="<results>/{model}/edits/records.json",
        moments="<results>/{model}/moments/moments.json",
        edit_layer="<results>/{model}/edits/edit_layer.json",
        frequencies=of_counterfact(*FREQUENCIES),
    output:
        scores="<results>/{model}/edits/{editor}/{part}.csv",
    log:
        "<logs>/edit_facts/{model}/{editor}/{part}.log",
    benchmark:
        "<benchmarks>/edit_facts/{model}/{editor}/{part}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("edit_facts"),
        gpu=gpus,
    params:
        load_options=load_options,
        settings=editor_settings,
        share=RECORDS_PER_JOB,
        generation_records=lookup(within=config, dpath="editing/generation_records"),
        continuations=lookup(within=config, dpath="editing/continuations"),
        generation_tokens=lookup(within=config, dpath="editing/generation_tokens"),
        seed=lookup(within=config, dpath="seed"),
        code=digest_of_edits,
    script:
        "../workflow_scripts/edit_facts.py"


rule gather_edits:
    """The scores of all records by one editor."""
    input:
        scores=of_parts(
            "edits/{editor}/{part}.csv", config["editing"]["records"], RECORDS_PER_JOB
        ),
    output:
        scores="<results>/{model}/edits/{editor}.csv",
    log:
        "<logs>/gather_edits/{model}/{editor}.log",
    localrule: True
    params:
        code=code_digest("gather_tables"),
    script:
        "../workflow_scripts/gather_tables.py"


rule edit_questions:
    """Some of zsRE's questions edited by one editor, judged, and undone. ROME Table 1."""
    input:
        model="<results>/models/{model}/provenance.json",
        questions=f"<results>/data/{ZSRE}",
        records="<results>/{model}/edits/records.json",
        moments="<results>/{model}/moments/moments.json",
        edit_layer="<results>/{model}/edits/edit_layer.json",
    output:
        scores="<results>/{model}/edits/zsre/{editor}/{part}.csv",
    log:
        "<logs>/edit_questions/{model}/{editor}/{part}.log",
    benchmark:
        "<benchmarks>/edit_questions/{model}/{editor}/{part}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("edit_questions"),
        gpu=gpus,
    params:
        load_options=load_options,
        settings=editor_settings,
        records=lookup(within=config, dpath="editing/zsre_records"),
        share=RECORDS_PER_JOB,
        code=digest_of_questions,
    script:
        "../workflow_scripts/edit_questions.py"


rule gather_questions:
    """The scores of all of zsRE's questions by one editor."""
    input:
        scores=of_parts(
            "edits/zsre/{editor}/{part}.csv",
            config["editing"]["zsre_records"],
            RECORDS_PER_JOB,
        ),
    output:
        scores="<results>/{model}/edits/zsre/{editor}.csv",
    log:
        "<logs>/gather_questions/{model}/{editor}.log",
    localrule: True
    params:
        code=code_digest("gather_tables"),
    script:
        "../workflow_scripts/gather_tables.py"


rule sample_edited_text:
    """What each edited model writes after the same prompts; ROME Fig. 6, table editing_generations."""
    input:
        model="<results>/models/{model}/provenance.json",
        records="<results>/{model}/edits/records.json",
        moments="<results>/{model}/moments/moments.json",
        edit_layer="<results>/{model}/edits/edit_layer.json",
    output:
        texts="<results>/{model}/edits/generations.csv",
    log:
        "<logs>/sample_edited_text/{model}.log",
    benchmark:
        "<benchmarks>/sample_edited_text/{model}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("sample_edited_text"),
        gpu=gpus,
    params:
        load_options=load_options,
        settings=all_editor_settings,
        generations=lookup(within=config, dpath="generations"),
        seed=lookup(within=config, dpath="seed"),
        code=editing_digest("sample_edited_text", *config["editing"]["editors"]),
    script:
        "../workflow_scripts/sample_edited_text.py"


rule search_edited_circuits:
    """Circuits of the showcase fact and of an unrelated one under one editor's weights; KC Fig. 4."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts=facts_of_showcase,
        records="<results>/{model}/edits/records.json",
        moments="<results>/{model}/moments/moments.json",
        edit_layer="<results>/{model}/edits/edit_layer.json",
        exact=exact_showcase_of_editor,
    output:
        circuits="<results>/{model}/edits/circuits/{editor}.npz",
    log:
        "<logs>/search_edited_circuits/{model}/{editor}.log",
    benchmark:
        "<benchmarks>/search_edited_circuits/{model}/{editor}.tsv"
    priority: 2  # an exact search: the longest job
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("search_edited_circuits"),
        gpu=gpus,
    params:
        load_options=load_options,
        kv=kv_view,
        settings=settings_of_seen_editor,
        showcase=lookup(within=config, dpath="showcase"),
        circuits=edited_showcase_settings,
        unrelated_circuits=single_settings,
        code=editing_digest(
            "search_edited_circuits",
            *config["editing"]["circuits"]["editors"],
            methods=[
                config["editing"]["circuits"]["method"],
                config["circuits"]["single"],
            ],
        ),
    script:
        "../workflow_scripts/search_edited_circuits.py"


rule compare_edited_circuits:
    """Circuits of the showcase fact and of an unrelated one before and after each edit; KC Fig. 4."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts=facts_of_showcase,
        records="<results>/{model}/edits/records.json",
        moments="<results>/{model}/moments/moments.json",
        edit_layer="<results>/{model}/edits/edit_layer.json",
        circuits=expand(
            "<results>/{{model}}/edits/circuits/{editor}.npz",
            editor=[UNEDITED, *config["editing"]["circuits"]["editors"]],
        ),
    output:
        heads="<results>/{model}/figures/edited_circuits.csv",
        overlap="<results>/{model}/figures/edited_circuits_overlap.csv",
        meta="<results>/{model}/figures/edited_circuits.json",
    log:
        "<logs>/compare_edited_circuits/{model}.log",
    benchmark:
        "<benchmarks>/compare_edited_circuits/{model}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("compare_edited_circuits"),
        gpu=gpus,
    params:
        load_options=load_options,
        kv=kv_view,
        settings=settings_of_seen_editors,
        showcase=lookup(within=config, dpath="showcase"),
        methods=methods_of_edited_circuits,
        heads=lookup(within=config, dpath="heads"),
        code=editing_digest(
            "compare_edited_circuits", *config["editing"]["circuits"]["editors"]
        ),
    script:
        "../workflow_scripts/compare_edited_circuits.py"


rule follow_edits:
    """Edits of one fact at several layers, seen through circuits and layers; KC section 5."""
    input:
        model="<results>/models/{model}/provenance.json",
        records="<results>/{model}/edits/records.json",
        moments="<results>/{model}/moments/moments.json",
        edit_layer="<results>/{model}/edits/edit_layer.json",
    output:
        circuits="<results>/{model}/edits/followed/{part}_circuits.csv",
        ranks="<results>/{model}/edits/followed/{part}_ranks.csv",
    log:
        "<logs>/follow_edits/{model}/{part}.log",
    benchmark:
        "<benchmarks>/follow_edits/{model}/{part}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("follow_edits"),
        gpu=gpus,
    params:
        load_options=load_options,
        kv=kv_view,
        settings=settings_of_seen_editors,
        circuits=single_settings,
        standing=standing_settings,
        standing_records=lookup(
            within=config, dpath="editing/circuits/standing_records"
        ),
        records=lookup(within=config, dpath="editing/circuits/records"),
        layers=layers_of_followed,
        heads=lookup(within=config, dpath="heads"),
        code=editing_digest(
            "follow_edits",
            *config["editing"]["circuits"]["editors"],
            methods=[config["circuits"]["single"], STANDING],
        ),
    script:
        "../workflow_scripts/follow_edits.py"


rule gather_followed:
    """The followed edits of all facts."""
    input:
        circuits=of_parts(
            "edits/followed/{part}_circuits.csv",
            config["editing"]["circuits"]["records"],
            1,
        ),
        ranks=of_parts(
            "edits/followed/{part}_ranks.csv",
            config["editing"]["circuits"]["records"],
            1,
        ),
    output:
        circuits="<results>/{model}/edits/followed_circuits.csv",
        ranks="<results>/{model}/edits/followed_ranks.csv",
    log:
        "<logs>/gather_followed/{model}.log",
    localrule: True
    params:
        code=code_digest("gather_tables"),
    script:
        "../workflow_scripts/gather_tables.py"


rule choose_text:
    """The text on which the perplexity of models that are edited again and again is measured."""
    input:
        model="<results>/models/{model}/provenance.json",
        text=text_of_sequence,
    output:
        text="<results>/{model}/edits/sequential/text.json",
    log:
        "<logs>/choose_text/{model}.log",
    benchmark:
        "<benchmarks>/choose_text/{model}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("choose_text"),
        gpu=gpus,
    params:
        load_options=load_options,
        sequential=sequence_settings,
        seed=lookup(within=config, dpath="seed"),
        code=code_digest("choose_text"),
    script:
        "../workflow_scripts/choose_text.py"


rule edit_in_sequence:
    """Records edited one after the other on one model by one editor; `none` judges the model as it is."""
    input:
        model="<results>/models/{model}/provenance.json",
        records="<results>/{model}/edits/records.json",
        moments="<results>/{model}/moments/moments.json",
        edit_layer="<results>/{model}/edits/edit_layer.json",
        text="<results>/{model}/edits/sequential/text.json",
    output:
        scores="<results>/{model}/edits/sequential/{editor}.csv",
    log:
        "<logs>/edit_in_sequence/{model}/{editor}.log",
    benchmark:
        "<benchmarks>/edit_in_sequence/{model}/{editor}.tsv"
    priority: 1  # no other job can share its edits
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("edit_in_sequence"),
        gpu=gpus,
    params:
        load_options=load_options,
        settings=editor_settings,
        sequential=sequence_settings,
        seed=lookup(within=config, dpath="seed"),
        code=digest_of_sequence,
    script:
        "../workflow_scripts/edit_in_sequence.py"


rule ask_after_edits:
    """Questions after either hop of a composition was edited; KC section 5, multi-hop editing."""
    input:
        model="<results>/models/{model}/provenance.json",
        relations=relations_of_study,
        records="<results>/{model}/edits/records.json",
        moments="<results>/{model}/moments/moments.json",
        edit_layer="<results>/{model}/edits/edit_layer.json",
    output:
        rows="<results>/{model}/edits/portability/{composition}.csv",
    log:
        "<logs>/ask_after_edits/{model}/{composition}.log",
    benchmark:
        "<benchmarks>/ask_after_edits/{model}/{composition}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("ask_after_edits"),
        gpu=gpus,
    params:
        load_options=load_options,
        source=lookup(within=config, dpath="relations/source"),
        settings=settings_of_seen_editors,
        composition=composition_of_wildcard,
        chains=lookup(within=config, dpath="hops/edited"),
        asked=lookup(within=config, dpath="editing/portability"),
        heads=lookup(within=config, dpath="heads"),
        seed=lookup(within=config, dpath="seed"),
        code=editing_digest(
            "ask_after_edits", *config["editing"]["circuits"]["editors"]
        ),
    script:
        "../workflow_scripts/ask_after_edits.py"


rule ask_reverse_after_edits:
    """Questions after facts of a relation were edited that is asked backward, too."""
    input:
        model="<results>/models/{model}/provenance.json",
        relations=relations_of_study,
        records="<results>/{model}/edits/records.json",
        moments="<results>/{model}/moments/moments.json",
        edit_layer="<results>/{model}/edits/edit_layer.json",
    output:
        rows="<results>/{model}/edits/portability/reverse/{relation}.csv",
    log:
        "<logs>/ask_reverse_after_edits/{model}/{relation}.log",
    benchmark:
        "<benchmarks>/ask_reverse_after_edits/{model}/{relation}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("ask_reverse_after_edits"),
        gpu=gpus,
    params:
        load_options=load_options,
        source=lookup(within=config, dpath="relations/source"),
        settings=settings_of_seen_editors,
        template=reverse_template,
        asked=lookup(within=config, dpath="editing/portability"),
        seed=lookup(within=config, dpath="seed"),
        code=editing_digest(
            "ask_reverse_after_edits", *config["editing"]["circuits"]["editors"]
        ),
    script:
        "../workflow_scripts/ask_reverse_after_edits.py"


rule ask_benchmark:
    """The edits of a data set about what follows from edits (MQuAKE, RippleEdits), and its questions after each."""
    input:
        model="<results>/models/{model}/provenance.json",
        cases=file_of_benchmark,
        records="<results>/{model}/edits/records.json",
        moments="<results>/{model}/moments/moments.json",
        edit_layer="<results>/{model}/edits/edit_layer.json",
    output:
        rows="<results>/{model}/edits/portability/datasets/{benchmark}.csv",
    log:
        "<logs>/ask_benchmark/{model}/{benchmark}.log",
    benchmark:
        "<benchmarks>/ask_benchmark/{model}/{benchmark}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("ask_benchmark"),
        gpu=gpus,
    params:
        load_options=load_options,
        settings=settings_of_seen_editors,
        asked=lookup(within=config, dpath="editing/portability"),
        code=digest_of_benchmark,
    script:
        "../workflow_scripts/ask_benchmark.py"


rule gather_portability:
    """The questions after edits of all compositions, relations that are asked backward, and data sets."""
    input:
        rows=rows_of_portability,
    output:
        rows="<results>/{model}/edits/portability.csv",
    log:
        "<logs>/gather_portability/{model}.log",
    localrule: True
    params:
        code=code_digest("gather_tables"),
    script:
        "../workflow_scripts/gather_tables.py"
