rule plot_causal_trace:
    """Average indirect effects by layer and token role; ROME Fig. 2 and 7."""
    input:
        effects="<results>/{model}/tables/causal_effects.csv",
    output:
        png=report(
            "<results>/{model}/figures/causal_trace.png",
            caption="captions/causal_trace.rst",
            category="Figures",
            subcategory="{model}",
        ),
        pdf="<results>/{model}/figures/causal_trace.pdf",
        data="<results>/{model}/figures/causal_trace.csv",
    log:
        "<logs>/plot_causal_trace/{model}.log",
    params:
        window=lookup(within=config, dpath="tracing/window"),
        code=code_digest("plot_causal_trace"),
    script:
        "../workflow_scripts/plot_causal_trace.py"


rule plot_causal_trace_facts:
    """Traces of single facts with their tokens; ROME Fig. 1."""
    input:
        traces="<results>/{model}/traces/facts.parquet",
    output:
        png=report(
            "<results>/{model}/figures/causal_trace_facts.png",
            caption="captions/causal_trace_facts.rst",
            category="Figures",
            subcategory="{model}",
        ),
        pdf="<results>/{model}/figures/causal_trace_facts.pdf",
        data="<results>/{model}/figures/causal_trace_facts.csv",
    log:
        "<logs>/plot_causal_trace_facts/{model}.log",
    params:
        window=lookup(within=config, dpath="tracing/window"),
        examples=lookup(within=config, dpath="tracing/examples"),
        code=code_digest("plot_causal_trace_facts"),
    script:
        "../workflow_scripts/plot_causal_trace_facts.py"


rule plot_causal_trace_severed:
    """Single states with MLPs or attention severed above them, by layer; ROME Fig. 3."""
    input:
        effects="<results>/{model}/tables/causal_effects_severed.csv",
    output:
        png=report(
            "<results>/{model}/figures/causal_trace_severed.png",
            caption="captions/causal_trace_severed.rst",
            category="Figures",
            subcategory="{model}",
        ),
        pdf="<results>/{model}/figures/causal_trace_severed.pdf",
        data="<results>/{model}/figures/causal_trace_severed.csv",
    log:
        "<logs>/plot_causal_trace_severed/{model}.log",
    params:
        code=code_digest("plot_causal_trace_severed"),
    script:
        "../workflow_scripts/plot_causal_trace_severed.py"


rule plot_circuit_graph:
    """The showcase fact's circuit; KC Fig. 1."""
    input:
        drawing="<results>/{model}/figures/circuit_graph.json",
    output:
        png=report(
            "<results>/{model}/figures/circuit_graph.png",
            caption="captions/circuit_graph.rst",
            category="Figures",
            subcategory="{model}",
        ),
        pdf="<results>/{model}/figures/circuit_graph.pdf",
    log:
        "<logs>/plot_circuit_graph/{model}.log",
    params:
        code=code_digest("plot_circuit_graph"),
    script:
        "../workflow_scripts/plot_circuit_graph.py"


rule plot_component_distribution:
    """Heads and MLPs of the circuits by layer; KC Fig. 2."""
    input:
        components="<results>/{model}/figures/component_distribution.csv",
    output:
        png=report(
            "<results>/{model}/figures/component_distribution.png",
            caption="captions/component_distribution.rst",
            category="Figures",
            subcategory="{model}",
        ),
        pdf="<results>/{model}/figures/component_distribution.pdf",
    log:
        "<logs>/plot_component_distribution/{model}.log",
    params:
        method=lookup(within=config, dpath="circuits/methods")[0],
        code=code_digest("plot_component_distribution"),
    script:
        "../workflow_scripts/plot_component_distribution.py"


rule plot_answer_rank_by_layer:
    """The answer's rank and probability through the layers; KC Fig. 3."""
    input:
        ranks="<results>/{model}/figures/answer_rank_by_layer.csv",
        meta="<results>/{model}/figures/answer_rank_by_layer.json",
    output:
        png=report(
            "<results>/{model}/figures/answer_rank_by_layer.png",
            caption="captions/answer_rank_by_layer.rst",
            category="Figures",
            subcategory="{model}",
        ),
        pdf="<results>/{model}/figures/answer_rank_by_layer.pdf",
    log:
        "<logs>/plot_answer_rank_by_layer/{model}.log",
    params:
        code=code_digest("plot_answer_rank_by_layer"),
    script:
        "../workflow_scripts/plot_answer_rank_by_layer.py"


rule plot_editing_sweep:
    """Edits by ROME by layer and token; ROME Fig. 5."""
    input:
        sweep="<results>/{model}/edits/sweep.csv",
        place="<results>/{model}/edits/place.json",
    output:
        png=report(
            "<results>/{model}/figures/editing_sweep.png",
            caption="captions/editing_sweep.rst",
            category="Figures",
            subcategory="{model}",
        ),
        pdf="<results>/{model}/figures/editing_sweep.pdf",
        data="<results>/{model}/figures/editing_sweep.csv",
    log:
        "<logs>/plot_editing_sweep/{model}.log",
    params:
        code=code_digest("plot_editing_sweep"),
    script:
        "../workflow_scripts/plot_editing_sweep.py"


rule plot_edited_circuits:
    """The mover heads before and after edits; KC Fig. 4."""
    input:
        heads="<results>/{model}/figures/edited_circuits.csv",
        overlap="<results>/{model}/figures/edited_circuits_overlap.csv",
        meta="<results>/{model}/figures/edited_circuits.json",
    output:
        png=report(
            "<results>/{model}/figures/edited_circuits.png",
            caption="captions/edited_circuits.rst",
            category="Figures",
            subcategory="{model}",
        ),
        pdf="<results>/{model}/figures/edited_circuits.pdf",
    log:
        "<logs>/plot_edited_circuits/{model}.log",
    params:
        code=code_digest("plot_edited_circuits"),
    script:
        "../workflow_scripts/plot_edited_circuits.py"


rule plot_hallucination:
    """A wrong answer beside a right one; KC Fig. 5, left."""
    input:
        ranks="<results>/{model}/figures/hallucination.csv",
        meta="<results>/{model}/figures/hallucination.json",
    output:
        png=report(
            "<results>/{model}/figures/hallucination.png",
            caption="captions/hallucination.rst",
            category="Figures",
            subcategory="{model}",
        ),
        pdf="<results>/{model}/figures/hallucination.pdf",
    log:
        "<logs>/plot_hallucination/{model}.log",
    params:
        code=code_digest("plot_hallucination"),
    script:
        "../workflow_scripts/plot_hallucination.py"


rule plot_icl_attention:
    """New heads of a demonstrated prompt; KC Fig. 5, right."""
    input:
        attention="<results>/{model}/figures/icl_attention.csv",
        meta="<results>/{model}/figures/icl_attention.json",
    output:
        png=report(
            "<results>/{model}/figures/icl_attention.png",
            caption="captions/icl_attention.rst",
            category="Figures",
            subcategory="{model}",
        ),
        pdf="<results>/{model}/figures/icl_attention.pdf",
    log:
        "<logs>/plot_icl_attention/{model}.log",
    params:
        code=code_digest("plot_icl_attention"),
    script:
        "../workflow_scripts/plot_icl_attention.py"


rule plot_faithfulness_curves:
    """hit@10 alone and faithfulness against circuit size, one line per method."""
    input:
        comparison="<results>/{model}/circuits/comparison.csv",
    output:
        png=report(
            "<results>/{model}/figures/faithfulness_curves.png",
            caption="captions/faithfulness_curves.rst",
            category="Figures",
            subcategory="{model}",
        ),
        pdf="<results>/{model}/figures/faithfulness_curves.pdf",
        data="<results>/{model}/figures/faithfulness_curves.csv",
    log:
        "<logs>/plot_faithfulness_curves/{model}.log",
    params:
        code=code_digest("plot_faithfulness_curves"),
    script:
        "../workflow_scripts/plot_faithfulness_curves.py"


rule plot_head_ablation_tokens:
    """The next token without the showcase's mover or relation head; KC appendix."""
    input:
        tokens="<results>/{model}/figures/head_ablation_tokens.csv",
        meta="<results>/{model}/figures/head_ablation_tokens.json",
    output:
        png=report(
            "<results>/{model}/figures/head_ablation_tokens.png",
            caption="captions/head_ablation_tokens.rst",
            category="Figures",
            subcategory="{model}",
        ),
        pdf="<results>/{model}/figures/head_ablation_tokens.pdf",
    log:
        "<logs>/plot_head_ablation_tokens/{model}.log",
    params:
        code=code_digest("plot_head_ablation_tokens"),
    script:
        "../workflow_scripts/plot_head_ablation_tokens.py"


rule plot_average_rank_by_layer:
    """The answer's average rank through the layers; KC appendix."""
    input:
        ranks="<results>/{model}/components/ranks.parquet",
    output:
        png=report(
            "<results>/{model}/figures/average_rank_by_layer.png",
            caption="captions/average_rank_by_layer.rst",
            category="Figures",
            subcategory="{model}",
        ),
        pdf="<results>/{model}/figures/average_rank_by_layer.pdf",
        data="<results>/{model}/figures/average_rank_by_layer.csv",
    log:
        "<logs>/plot_average_rank_by_layer/{model}.log",
    params:
        code=code_digest("plot_average_rank_by_layer"),
    script:
        "../workflow_scripts/plot_average_rank_by_layer.py"


rule plot_edited_rank_by_layer:
    """The new object's rank through the layers, by editor and edited layer; KC appendix."""
    input:
        ranks="<results>/{model}/edits/followed_ranks.csv",
    output:
        png=report(
            "<results>/{model}/figures/edited_rank_by_layer.png",
            caption="captions/edited_rank_by_layer.rst",
            category="Figures",
            subcategory="{model}",
        ),
        pdf="<results>/{model}/figures/edited_rank_by_layer.pdf",
        data="<results>/{model}/figures/edited_rank_by_layer.csv",
    log:
        "<logs>/plot_edited_rank_by_layer/{model}.log",
    params:
        code=code_digest("plot_edited_rank_by_layer"),
    script:
        "../workflow_scripts/plot_edited_rank_by_layer.py"


rule plot_average_rank_of_models:
    """The answer's average rank through the layers, one line per model; KC appendix."""
    input:
        ranks=expand(
            "<results>/{model}/figures/average_rank_by_layer.csv",
            model=config["models"],
        ),
    output:
        png=report(
            "<results>/all/figures/average_rank_by_layer.png",
            caption="captions/all_average_rank_by_layer.rst",
            category="Figures",
            subcategory="all models",
        ),
        pdf="<results>/all/figures/average_rank_by_layer.pdf",
        data="<results>/all/figures/average_rank_by_layer.csv",
    log:
        "<logs>/plot_average_rank_of_models.log",
    params:
        code=code_digest("plot_average_rank_of_models"),
    script:
        "../workflow_scripts/plot_average_rank_of_models.py"
