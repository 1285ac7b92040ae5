# The one-dimensional regression of figure 2.
rule toy:
    input:
        TOY_TABLES,
        TOY_FIGURES,
    localrule: True
    message:
        "Drawn: see {input}"


rule train_toy:
    input:
        config="config/toy.yaml",
    output:
        errors="results/tables/toy.csv",
        curves="results/tables/toy_curves.csv",
    log:
        "results/logs/train_toy.log",
    conda:
        "../../envs/train.yaml"
    threads: config["train_threads"]
    resources:
        mem_mb=2000,
        runtime=15,
    message:
        "Learning three functions one after the other"
    shell:
        "python workflow/scripts/train_toy.py --config {input.config} --errors {output.errors} --curves {output.curves}"
        " --threads {threads} > {log} 2>&1"


rule compare_toy:
    input:
        errors=toy_table("toy"),
        reference="config/reference.csv",
        script="workflow/scripts/compare_toy.py",
        code=[*RESULTS_CODE, "workflow/scripts/hnetcl/toy_table.py"],
    output:
        csv=report(
            "results/tables/toy_verdicts.csv",
            caption="../report/toy.rst",
            category=report_chapter("figure 2"),
            labels={"artefact": "3 every number (CSV)"},
        ),
        markdown="results/tables/toy.md",
    log:
        "results/logs/compare_toy.log",
    conda:
        "../../envs/results.yaml"
    message:
        "Setting the errors of the regression beside the published ones"
    shell:
        "python {input.script} --errors {input.errors} --reference {input.reference} --csv {output.csv}"
        " --markdown {output.markdown} > {log} 2>&1"


rule plot_toy:
    input:
        errors=toy_table("toy"),
        curves=toy_table("toy_curves"),
        reference="config/reference.csv",
        script="workflow/scripts/plot_toy.py",
        code=[*RESULTS_CODE, "workflow/scripts/hnetcl/toy_table.py"],
    output:
        png=report(
            "results/figures/toy.png",
            caption="../report/toy.rst",
            category=report_chapter("figure 2"),
            labels={"artefact": "2 figure: what is learned and what remains"},
        ),
        pdf="results/figures/toy.pdf",
    log:
        "results/logs/plot_toy.log",
    conda:
        "../../envs/results.yaml"
    message:
        "Drawing three functions learned one after the other"
    shell:
        "python {input.script} --errors {input.errors} --curves {input.curves} --reference {input.reference}"
        " --png {output.png} --pdf {output.pdf} > {log} 2>&1"
