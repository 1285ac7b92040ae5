# Accuracy over the plane of two-dimensional task embeddings (figure 4).
rule measure_landscape:
    input:
        dataset=lambda wildcards: f"results/datasets/{PLANES[wildcards.plane].settings['dataset']}.npz",
    output:
        "results/tables/{plane}.npz",
    log:
        "results/logs/measure_landscape/{plane}.log",
    wildcard_constraints:
        plane="|".join(PLANES),
    conda:
        "../../envs/train.yaml"
    threads: config["train_threads"]
    resources:
        gpu=int(config["device"] == "cuda"),
        device=config["device"],
        mem_mb=4000,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        specification=lambda wildcards: first_training_hash(
            PLANES[wildcards.plane], "hnet_ent", PLANES[wildcards.plane].seeds
        ),
    message:
        "Training and measuring the plane of task embeddings of {wildcards.plane}"
    shell:
        "python workflow/scripts/measure_landscape.py --experiment config/experiments/{wildcards.plane}.yaml"
        " --dataset {input.dataset} --output {output} --device {resources.device} --threads {threads} > {log} 2>&1"


rule plot_landscape:
    input:
        landscape=landscape_file,
        script="workflow/scripts/plot_landscape.py",
        code=RESULTS_CODE,
    output:
        png=report(
            "results/figures/{plane}.png",
            caption="../report/landscape.rst",
            category=report_chapter("figure 4"),
            labels={"artefact": "accuracy over the plane"},
        ),
        pdf="results/figures/{plane}.pdf",
    log:
        "results/logs/plot_landscape/{plane}.log",
    wildcard_constraints:
        plane="|".join(PLANES),
    conda:
        "../../envs/results.yaml"
    params:
        title=lambda wildcards: PLANES[wildcards.plane].title,
    message:
        "Drawing the plane of task embeddings of {wildcards.plane}"
    shell:
        "python {input.script} --landscape {input.landscape} --title {params.title:q}"
        " --png {output.png} --pdf {output.pdf} > {log} 2>&1"
