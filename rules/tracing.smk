rule screen_known_1000:
    """Which facts of ROME's known_1000 can be traced on this model, and why the others cannot; ROME section 2."""
    input:
        model="<results>/models/{model}/provenance.json",
        known_1000=f"<results>/data/{KNOWN_1000}",
    output:
        facts="<results>/{model}/facts/known_1000.parquet",
        left_out="<results>/{model}/traces/left_out.csv",
    log:
        "<logs>/screen_known_1000/{model}.log",
    benchmark:
        "<benchmarks>/screen_known_1000/{model}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("screen_known_1000"),
        gpu=gpus,
    params:
        load_options=load_options,
        code=code_digest("screen_known_1000"),
    script:
        "../workflow_scripts/screen_known_1000.py"


rule trace_facts:
    """Causal traces of some known facts, each kept in traces/facts/ as soon as it is done; ROME section 2."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts=facts_of_tracing,
        left_out=left_out_of_tracing,
    output:
        traces="<results>/{model}/traces/parts/{part}.parquet",
    log:
        "<logs>/trace_facts/{model}/{part}.log",
    benchmark:
        "<benchmarks>/trace_facts/{model}/{part}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("trace_facts"),
        gpu=gpus,
    params:
        load_options=load_options,
        tracing=tracing_settings,
        share=FACTS_PER_JOB,
        part=part_of_wildcard,
        seed=lookup(within=config, dpath="seed"),
        code=code_digest("trace_facts"),
    script:
        "../workflow_scripts/trace_facts.py"


rule gather_traces:
    """The traces of all facts in one table."""
    input:
        traces=of_parts(
            "traces/parts/{part}.parquet", config["tracing"]["facts"], FACTS_PER_JOB
        ),
    output:
        traces="<results>/{model}/traces/facts.parquet",
    log:
        "<logs>/gather_traces/{model}.log",
    localrule: True
    params:
        code=code_digest("gather_tables"),
    script:
        "../workflow_scripts/gather_tables.py"


rule measure_saliency:
    """Integrated gradients of a traced fact, where tracing.saliency asks for them; ROME Fig. 16."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts=facts_of_tracing,
        left_out=left_out_of_tracing,
    output:
        gradients="<results>/{model}/traces/saliency/parts/{part}.parquet",
    log:
        "<logs>/measure_saliency/{model}/{part}.log",
    benchmark:
        "<benchmarks>/measure_saliency/{model}/{part}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("measure_saliency"),
        gpu=gpus,
    params:
        load_options=load_options,
        tracing=saliency_settings,
        share=GRADIENTS_PER_JOB,
        seed=lookup(within=config, dpath="seed"),
        code=code_digest("measure_saliency"),
    script:
        "../workflow_scripts/measure_saliency.py"


rule gather_saliency:
    """The integrated gradients of all facts in one table."""
    input:
        gradients=of_parts(
            "traces/saliency/parts/{part}.parquet",
            config["tracing"]["facts"],
            GRADIENTS_PER_JOB,
        ),
    output:
        gradients="<results>/{model}/traces/saliency.parquet",
    log:
        "<logs>/gather_saliency/{model}.log",
    localrule: True
    params:
        code=code_digest("gather_tables"),
    script:
        "../workflow_scripts/gather_tables.py"


rule trace_counterfactuals:
    """Causal traces with another subject in place of noise, where tracing.counterfactual asks; arXiv 2309.16042."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts=facts_of_tracing,
        left_out=left_out_of_tracing,
    output:
        traces="<results>/{model}/traces/counterfactual/parts/{part}.parquet",
    log:
        "<logs>/trace_counterfactuals/{model}/{part}.log",
    benchmark:
        "<benchmarks>/trace_counterfactuals/{model}/{part}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("trace_counterfactuals"),
        gpu=gpus,
    params:
        load_options=load_options,
        tracing=counterfactual_settings,
        share=FACTS_PER_JOB,
        seed=lookup(within=config, dpath="seed"),
        code=code_digest("trace_counterfactuals"),
    script:
        "../workflow_scripts/trace_counterfactuals.py"


rule gather_counterfactuals:
    """The traces with another subject of all facts in one table."""
    input:
        traces=counterfactual_traces,
    output:
        traces="<results>/{model}/traces/counterfactual.parquet",
    log:
        "<logs>/gather_counterfactuals/{model}.log",
    localrule: True
    params:
        code=code_digest("gather_tables"),
    script:
        "../workflow_scripts/gather_tables.py"


rule trace_heads:
    """Causal traces of single heads, where tracing.heads asks for them."""
    input:
        model="<results>/models/{model}/provenance.json",
        facts=facts_of_tracing,
        left_out=left_out_of_tracing,
    output:
        traces="<results>/{model}/traces/heads/parts/{part}.parquet",
    log:
        "<logs>/trace_heads/{model}/{part}.log",
    benchmark:
        "<benchmarks>/trace_heads/{model}/{part}.tsv"
    threads: 1
    resources:
        mem_mb=model_mb,
        runtime=minutes("trace_heads"),
        gpu=gpus,
    params:
        load_options=load_options,
        tracing=head_settings,
        share=HEADS_PER_JOB,
        seed=lookup(within=config, dpath="seed"),
        code=code_digest("trace_heads"),
    script:
        "../workflow_scripts/trace_heads.py"


rule gather_head_traces:
    """The traces of heads of all facts in one table."""
    input:
        traces=traces_of_heads,
    output:
        traces="<results>/{model}/traces/heads.parquet",
    log:
        "<logs>/gather_head_traces/{model}.log",
    localrule: True
    params:
        code=code_digest("gather_tables"),
    script:
        "../workflow_scripts/gather_tables.py"
