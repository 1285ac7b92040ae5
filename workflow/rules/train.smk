# Training: one job a run, or one job a pack of seeds. Checkpoints are no declared outputs, so that Snakemake leaves
# them alone when a job fails; the job that follows goes on from them.


rule train_run:
    input:
        dataset=ancient(dataset_file),  # what counts is its content, and its checksum is in the record
    output:
        update("results/runs/{experiment}/{method}/{training}/seed-{seed}.json"),  # a record that still fits is kept
    log:
        "results/logs/train/{experiment}/{method}/{training}/seed-{seed}.log",
    benchmark:
        "results/benchmarks/train/{experiment}/{method}/{training}/seed-{seed}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: config["train_threads"]
    resources:
        gpu=int(config["device"] == "cuda"),
        device=config["device"],
        matmul_precision=config["matmul_precision"],
        checkpoint_seconds=config["checkpoint_seconds"],
        time_budget=config["time_budget"],
        mem_mb=training_memory,
        runtime=training_minutes,
    params:
        seeds=lambda wildcards: wildcards.seed,
        specification=training_hash,
        records=subpath(output[0], parent=True),
        manifest="",
    message:
        "Training {wildcards.method} on {wildcards.experiment} ({wildcards.training}), seed {wildcards.seed}"
    shell:
        TRAIN_COMMAND


rule train_pack:
    input:
        dataset=ancient(dataset_file),  # what counts is its content, and its checksum is in the record
    output:
        "results/packs/{experiment}/{method}/{training}/seeds-{seeds}.txt",
    log:
        "results/logs/train/{experiment}/{method}/{training}/seeds-{seeds}.log",
    benchmark:
        "results/benchmarks/train/{experiment}/{method}/{training}/seeds-{seeds}.tsv"
    wildcard_constraints:
        seeds=r"\d+(-\d+)+",
    conda:
        "../../envs/train.yaml"
    threads: config["train_threads"]
    resources:
        gpu=int(config["device"] == "cuda"),
        device=config["device"],
        matmul_precision=config["matmul_precision"],
        checkpoint_seconds=config["checkpoint_seconds"],
        time_budget=config["time_budget"],
        mem_mb=training_memory,
        runtime=training_minutes,
    params:
        seeds=lambda wildcards: wildcards.seeds.split("-"),
        specification=training_hash,
        records=lambda wildcards: f"results/runs/{wildcards.experiment}/{wildcards.method}/{wildcards.training}",
        manifest=lambda wildcards, output: f"--manifest {output}",
    message:
        "Training {wildcards.method} on {wildcards.experiment} ({wildcards.training}), seeds {wildcards.seeds}"
    shell:
        TRAIN_COMMAND


rule sample_replay:
    input:
        dataset=ancient(dataset_file),
    output:
        "results/samples/{experiment}.npz",
    log:
        "results/logs/sample_replay/{experiment}.log",
    conda:
        "../../envs/train.yaml"
    threads: config["train_threads"]
    resources:
        gpu=int(config["device"] == "cuda"),
        device=config["device"],
        mem_mb=4000,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        seed=lambda wildcards: EXPERIMENTS[wildcards.experiment].seeds[0],
        specification=lambda wildcards: first_training_hash(
            EXPERIMENTS[wildcards.experiment], "hnet_r", EXPERIMENTS[wildcards.experiment].seeds[:1]
        ),
    message:
        "Training the replay model of {wildcards.experiment} to see what it draws"
    shell:
        "python workflow/scripts/sample_replay.py --experiment config/experiments/{wildcards.experiment}.yaml"
        " --seed {params.seed} --dataset {input.dataset} --output {output} --device {resources.device}"
        " --threads {threads} > {log} 2>&1"


rule measure_confidence:
    input:
        dataset=lambda wildcards: f"results/datasets/{confidence_experiment(wildcards).settings['dataset']}.npz",
    output:
        "results/tables/{collection}_confidence.csv",
    log:
        "results/logs/measure_confidence/{collection}.log",
    conda:
        "../../envs/train.yaml"
    threads: config["train_threads"]
    resources:
        gpu=int(config["device"] == "cuda"),
        device=config["device"],
        mem_mb=4000,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        experiment=lambda wildcards: confidence_experiment(wildcards).name,
        seeds=lambda wildcards: confidence_experiment(wildcards).seeds,
        specification=lambda wildcards: first_training_hash(
            confidence_experiment(wildcards), "hnet_ent", confidence_experiment(wildcards).seeds
        ),
    message:
        "Measuring how sure the networks of {params.experiment} are"
    shell:
        "python workflow/scripts/measure_confidence.py --experiment config/experiments/{params.experiment}.yaml"
        " --seeds {params.seeds} --dataset {input.dataset} --output {output} --device {resources.device}"
        " --threads {threads} > {log} 2>&1"
