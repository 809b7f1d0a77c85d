rule tabulate_known_facts:
    """hit@1 and hit@10 of the whole model by relation; KC section 4, ROME section 2.2."""
    input:
        facts="<results>/{model}/facts/known.parquet",
    output:
        csv="<results>/{model}/tables/known_facts.csv",
        tex="<results>/{model}/tables/known_facts.tex",
    log:
        "<logs>/tabulate_known_facts/{model}.log",
    params:
        hits=lookup(within=config, dpath="facts/hits"),
        code=code_digest("tabulate_known_facts"),
    script:
        "../workflow_scripts/tabulate_known_facts.py"


rule tabulate_causal_effects:
    """Average total and indirect effects; ROME section 2.2."""
    input:
        traces="<results>/{model}/traces/facts.parquet",
    output:
        csv="<results>/{model}/tables/causal_effects.csv",
        tex="<results>/{model}/tables/causal_effects.tex",
    log:
        "<logs>/tabulate_causal_effects/{model}.log",
    params:
        code=code_digest("tabulate_causal_effects"),
    script:
        "../workflow_scripts/tabulate_causal_effects.py"


rule tabulate_causal_effects_severed:
    """Effects of single states with MLPs or attention severed above them; ROME Fig. 3."""
    input:
        traces="<results>/{model}/traces/facts.parquet",
    output:
        csv="<results>/{model}/tables/causal_effects_severed.csv",
        tex="<results>/{model}/tables/causal_effects_severed.tex",
    log:
        "<logs>/tabulate_causal_effects_severed/{model}.log",
    params:
        code=code_digest("tabulate_causal_effects_severed"),
    script:
        "../workflow_scripts/tabulate_causal_effects_severed.py"


rule tabulate_circuit_hit_at_10:
    """What circuits can do alone, by relation; KC Table 1."""
    input:
        scores="<results>/{model}/circuits/scores.csv",
        showcase="<results>/{model}/circuits/showcase_scores.csv",
    output:
        csv="<results>/{model}/tables/circuit_hit_at_10.csv",
        tex="<results>/{model}/tables/circuit_hit_at_10.tex",
    log:
        "<logs>/tabulate_circuit_hit_at_10/{model}.log",
    params:
        code=code_digest("tabulate_circuit_hit_at_10"),
    script:
        "../workflow_scripts/tabulate_circuit_hit_at_10.py"


rule tabulate_editing_scores:
    """The editors' scores; ROME Tables 4 and 5."""
    input:
        scores=expand(
            "<results>/{{model}}/edits/{editor}.csv",
            editor=["none", *config["editing"]["editors"]],
        ),
        place="<results>/{model}/edits/place.json",
    output:
        csv="<results>/{model}/tables/editing_scores.csv",
        tex="<results>/{model}/tables/editing_scores.tex",
    log:
        "<logs>/tabulate_editing_scores/{model}.log",
    params:
        editors=["none", *config["editing"]["editors"]],
        n_layers=n_layers,
        code=code_digest("tabulate_editing_scores"),
    script:
        "../workflow_scripts/tabulate_editing_scores.py"


rule tabulate_zsre_scores:
    """The editors' scores on questions; ROME Table 1."""
    input:
        scores=expand(
            "<results>/{{model}}/edits/{editor}.csv",
            editor=["none", *config["editing"]["editors"]],
        ),
    output:
        csv="<results>/{model}/tables/zsre_scores.csv",
        tex="<results>/{model}/tables/zsre_scores.tex",
    log:
        "<logs>/tabulate_zsre_scores/{model}.log",
    params:
        editors=["none", *config["editing"]["editors"]],
        code=code_digest("tabulate_zsre_scores"),
    script:
        "../workflow_scripts/tabulate_zsre_scores.py"


rule tabulate_editing_generations:
    """What edited models write; ROME Fig. 6."""
    input:
        texts="<results>/{model}/edits/generations.csv",
    output:
        csv="<results>/{model}/tables/editing_generations.csv",
        tex="<results>/{model}/tables/editing_generations.tex",
    log:
        "<logs>/tabulate_editing_generations/{model}.log",
    params:
        code=code_digest("tabulate_editing_generations"),
    script:
        "../workflow_scripts/tabulate_editing_generations.py"


rule tabulate_icl_head_ablation:
    """Ablation of the heads that demonstrations bring in; KC Table 2."""
    input:
        ablation="<results>/{model}/circuits/icl_ablation.csv",
    output:
        csv="<results>/{model}/tables/icl_head_ablation.csv",
        tex="<results>/{model}/tables/icl_head_ablation.tex",
    log:
        "<logs>/tabulate_icl_head_ablation/{model}.log",
    params:
        code=code_digest("tabulate_icl_head_ablation"),
    script:
        "../workflow_scripts/tabulate_icl_head_ablation.py"


rule tabulate_method_comparison:
    """The methods that find circuits, side by side."""
    input:
        comparison="<results>/{model}/circuits/comparison.csv",
        seconds=expand(
            "<results>/{{model}}/circuits/{method}_seconds.json",
            method=METHODS,
        ),
    output:
        csv="<results>/{model}/tables/method_comparison.csv",
        tex="<results>/{model}/tables/method_comparison.tex",
    log:
        "<logs>/tabulate_method_comparison/{model}.log",
    params:
        methods=METHODS,
        code=code_digest("tabulate_method_comparison"),
    script:
        "../workflow_scripts/tabulate_method_comparison.py"


rule tabulate_special_components:
    """Mover, relation and mixture heads of every relation; KC section 4.3."""
    input:
        heads="<results>/{model}/components/heads.csv",
    output:
        csv="<results>/{model}/tables/special_components.csv",
        tex="<results>/{model}/tables/special_components.tex",
    log:
        "<logs>/tabulate_special_components/{model}.log",
    params:
        code=code_digest("tabulate_special_components"),
    script:
        "../workflow_scripts/tabulate_special_components.py"


rule tabulate_head_ablation:
    """Every relation without its special heads; KC section 4.3."""
    input:
        ablation="<results>/{model}/components/ablation.csv",
    output:
        csv="<results>/{model}/tables/head_ablation.csv",
        tex="<results>/{model}/tables/head_ablation.tex",
    log:
        "<logs>/tabulate_head_ablation/{model}.log",
    params:
        code=code_digest("tabulate_head_ablation"),
    script:
        "../workflow_scripts/tabulate_head_ablation.py"


rule tabulate_edited_circuit_overlap:
    """Circuits before and after edits of many facts; KC section 5."""
    input:
        circuits="<results>/{model}/edits/followed_circuits.csv",
    output:
        csv="<results>/{model}/tables/edited_circuit_overlap.csv",
        tex="<results>/{model}/tables/edited_circuit_overlap.tex",
    log:
        "<logs>/tabulate_edited_circuit_overlap/{model}.log",
    params:
        code=code_digest("tabulate_edited_circuit_overlap"),
    script:
        "../workflow_scripts/tabulate_edited_circuit_overlap.py"


rule tabulate_claims:
    """The papers' claims, each decided by a number of this run."""
    input:
        ranks="<results>/{model}/components/ranks.parquet",
        heads="<results>/{model}/components/heads.csv",
        ablation="<results>/{model}/components/ablation.csv",
        traces="<results>/{model}/traces/facts.parquet",
        circuits="<results>/{model}/edits/followed_circuits.csv",
        edited_ranks="<results>/{model}/edits/followed_ranks.csv",
        wrong="<results>/{model}/behaviours/wrong_answers.parquet",
        icl="<results>/{model}/circuits/icl_ablation.csv",
        hops="<results>/{model}/behaviours/hops.csv",
        both_ways="<results>/{model}/behaviours/both_ways.csv",
        alone="<results>/{model}/circuits/scores.csv",
        edits=expand(
            "<results>/{{model}}/edits/{editor}.csv",
            editor=["none", *config["editing"]["editors"]],
        ),
    output:
        csv="<results>/{model}/tables/claims.csv",
        tex="<results>/{model}/tables/claims.tex",
    log:
        "<logs>/tabulate_claims/{model}.log",
    params:
        editors=["none", *config["editing"]["editors"]],
        code=code_digest("tabulate_claims"),
    script:
        "../workflow_scripts/tabulate_claims.py"


rule tabulate_hallucination_heads:
    """Wrong answers of the right type beside right ones; KC section 6.1."""
    input:
        cases="<results>/{model}/behaviours/wrong_answers.parquet",
    output:
        csv="<results>/{model}/tables/hallucination_heads.csv",
        tex="<results>/{model}/tables/hallucination_heads.tex",
    log:
        "<logs>/tabulate_hallucination_heads/{model}.log",
    params:
        code=code_digest("tabulate_hallucination_heads"),
    script:
        "../workflow_scripts/tabulate_hallucination_heads.py"


rule tabulate_hops:
    """Facts in two hops; KC appendix."""
    input:
        hops="<results>/{model}/behaviours/hops.csv",
    output:
        csv="<results>/{model}/tables/hops.csv",
        tex="<results>/{model}/tables/hops.tex",
    log:
        "<logs>/tabulate_hops/{model}.log",
    params:
        code=code_digest("tabulate_hops"),
    script:
        "../workflow_scripts/tabulate_hops.py"


rule tabulate_reverse_relations:
    """Facts asked forward and backward; KC appendix."""
    input:
        both_ways="<results>/{model}/behaviours/both_ways.csv",
    output:
        csv="<results>/{model}/tables/reverse_relations.csv",
        tex="<results>/{model}/tables/reverse_relations.tex",
    log:
        "<logs>/tabulate_reverse_relations/{model}.log",
    params:
        code=code_digest("tabulate_reverse_relations"),
    script:
        "../workflow_scripts/tabulate_reverse_relations.py"
