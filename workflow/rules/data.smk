# From a dataset's files to prepared arrays.
localrules:
    prepare_dataset,  # the only rule that may need the network, which compute nodes often lack
    stage,


# All that any training of the configuration reads: made where there is a network, it can be copied to where there is none.
rule stage:
    input:
        sorted({f"results/datasets/{e.settings['dataset']}.npz" for e in (EXPERIMENTS | PLANES).values()}),


rule prepare_dataset:
    output:
        "results/datasets/{dataset}.npz",
    log:
        "results/logs/prepare_dataset/{dataset}.log",
    conda:
        "../../envs/train.yaml"
    resources:
        data_dir=config["data_dir"],  # no parameter: the same files from another place are no other dataset
    message:
        "Checking and preparing the dataset {wildcards.dataset}"
    shell:
        "python workflow/scripts/prepare_dataset.py --dataset {wildcards.dataset}"
        " --data-dir {resources.data_dir:q} --output {output} > {log} 2>&1"
