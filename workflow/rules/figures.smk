# Figures are drawn from tidy tables; nothing is trained or measured here.
rule plot_final_accuracy:
    input:
        runs=runs_table,
        reference="config/reference.csv",
        script="workflow/scripts/plot_final_accuracy.py",
        code=RESULTS_CODE,
    output:
        png=report(
            "results/figures/{collection}_final_accuracy.png",
            caption="../report/final_accuracy.rst",
            category=collection_chapter,
            labels={"artefact": "2 figure: final accuracy by method"},
        ),
        pdf="results/figures/{collection}_final_accuracy.pdf",
    log:
        "results/logs/plot_final_accuracy/{collection}.log",
    conda:
        "../../envs/results.yaml"
    params:
        experiments=lambda wildcards: collection_titles(wildcards.collection),
        published_as=lambda wildcards: published_titles(wildcards.collection),
    message:
        "Drawing the final accuracy by method of {wildcards.collection}"
    shell:
        "python {input.script} --runs {input.runs} --reference {input.reference}"
        " --experiments {params.experiments:q} --png {output.png} --pdf {output.pdf}"
        " --published-as {params.published_as:q} > {log} 2>&1"


rule plot_accuracy_matrix:
    input:
        accuracy=accuracy_table,
        script="workflow/scripts/plot_accuracy_matrix.py",
        code=RESULTS_CODE,
    output:
        png=report(
            "results/figures/{collection}_accuracy_matrix.png",
            caption="../report/accuracy_matrix.rst",
            category=collection_chapter,
            labels={"artefact": "3 figure: accuracy by task over the sequence"},
        ),
        pdf="results/figures/{collection}_accuracy_matrix.pdf",
    log:
        "results/logs/plot_accuracy_matrix/{collection}.log",
    conda:
        "../../envs/results.yaml"
    params:
        scenario=lambda wildcards: matrix_scenario(wildcards.collection),
        experiments=lambda wildcards: collection_titles(wildcards.collection),
        published_as=lambda wildcards: published_titles(wildcards.collection),
    message:
        "Drawing the accuracy matrices of {wildcards.collection}"
    shell:
        "python {input.script} --accuracy {input.accuracy} --scenario {params.scenario}"
        " --experiments {params.experiments:q} --png {output.png} --pdf {output.pdf}"
        " --published-as {params.published_as:q} > {log} 2>&1"


rule plot_replay_samples:
    input:
        samples=samples_files,
        script="workflow/scripts/plot_replay_samples.py",
        code=RESULTS_CODE,
    output:
        png=report(
            "results/figures/{collection}_replay_samples.png",
            caption="../report/replay_samples.rst",
            category=collection_chapter,
            labels={"artefact": "4 figure: digits drawn by the replay models"},
        ),
        pdf="results/figures/{collection}_replay_samples.pdf",
    log:
        "results/logs/plot_replay_samples/{collection}.log",
    wildcard_constraints:
        collection=collections_with("samples_of"),
    conda:
        "../../envs/results.yaml"
    message:
        "Drawing what the replay models of {wildcards.collection} draw"
    shell:
        "python {input.script} --samples {input.samples} --png {output.png} --pdf {output.pdf} > {log} 2>&1"


rule plot_confidence:
    input:
        confidence=confidence_file,
        script="workflow/scripts/plot_confidence.py",
        code=RESULTS_CODE,
    output:
        png=report(
            "results/figures/{collection}_confidence.png",
            caption="../report/confidence.rst",
            category=collection_chapter,
            labels={"artefact": "4 figure: how sure each network is"},
        ),
        pdf="results/figures/{collection}_confidence.pdf",
    log:
        "results/logs/plot_confidence/{collection}.log",
    wildcard_constraints:
        collection=collections_with("confidence_of"),
    conda:
        "../../envs/results.yaml"
    params:
        title=lambda wildcards: confidence_experiment(wildcards).title,
    message:
        "Drawing how sure the networks of {wildcards.collection} are"
    shell:
        "python {input.script} --confidence {input.confidence} --title {params.title:q}"
        " --png {output.png} --pdf {output.pdf} > {log} 2>&1"
