# From records to tidy tables, from tidy tables to the tables of the paper.
localrules:
    publish,
    readme,


rule collect_runs:
    input:
        trained=training_outputs,
        experiments=lambda wildcards: collection_files(wildcards.collection),
        script="workflow/scripts/collect_runs.py",
        code=RESULTS_CODE,
    output:
        runs="results/tables/{collection}_runs.csv",
        accuracy="results/tables/{collection}_accuracy.csv",
    log:
        "results/logs/collect_runs/{collection}.log",
    conda:
        "../../envs/results.yaml"
    params:
        records=records,
        experiments=lambda wildcards: experiment_files(wildcards.collection),
    message:
        "Collecting the records of {wildcards.collection}"
    shell:
        "python {input.script} --experiments {params.experiments} --records {params.records}"
        " --runs {output.runs} --accuracy {output.accuracy} > {log} 2>&1"


rule make_table:
    input:
        runs=runs_table,
        reference="config/reference.csv",
        script="workflow/scripts/make_table.py",
        code=RESULTS_CODE,
    output:
        summary=report(
            "results/tables/{collection}.csv",
            caption="../report/summary.rst",
            category=collection_chapter,
            labels={"artefact": "6 mean and SEM of every measure (CSV)"},
        ),
        verdicts=report(
            "results/tables/{collection}_verdicts.csv",
            caption="../report/verdicts.rst",
            category=collection_chapter,
            labels={"artefact": "5 verdicts (CSV)"},
        ),
        markdown="results/tables/{collection}.md",
        latex="results/tables/{collection}.tex",
    log:
        "results/logs/make_table/{collection}.log",
    wildcard_constraints:
        collection=collections_of("methods"),
    conda:
        "../../envs/results.yaml"
    params:
        experiments=lambda wildcards: collection_titles(wildcards.collection),
        title=lambda wildcards: config["collections"][wildcards.collection]["title"],
        margin=config["verdict_margin"],
        published_as=lambda wildcards: published_titles(wildcards.collection),
    message:
        "Making the table of {wildcards.collection}"
    shell:
        "python {input.script} --runs {input.runs} --reference {input.reference}"
        " --margin {params.margin} --experiments {params.experiments:q} --title {params.title:q}"
        " --summary {output.summary} --verdicts {output.verdicts}"
        " --markdown {output.markdown} --latex {output.latex}"
        " --published-as {params.published_as:q} > {log} 2>&1"


rule compare_variants:
    input:
        runs=runs_table,
        reference="config/reference.csv",
        script="workflow/scripts/compare_variants.py",
        panels="workflow/scripts/plot_final_accuracy.py",
        code=RESULTS_CODE,
    output:
        table=report(
            "results/tables/{collection}.csv",
            caption="../report/variants.rst",
            category=collection_chapter,
            labels={"artefact": "5 every number (CSV)"},
        ),
        markdown="results/tables/{collection}.md",
        png=report(
            "results/figures/{collection}_variants.png",
            caption="../report/variants.rst",
            category=collection_chapter,
            labels={"artefact": "2 figure: final accuracy by variant"},
        ),
        pdf="results/figures/{collection}_variants.pdf",
    log:
        "results/logs/compare_variants/{collection}.log",
    wildcard_constraints:
        collection=collections_of("variants"),
    conda:
        "../../envs/results.yaml"
    params:
        variants=variants,
    message:
        "Comparing the variants of {wildcards.collection}"
    shell:
        "python {input.script} --runs {input.runs} --published {input.reference}"
        " --titles {params.variants[titles]:q} --variants {params.variants[names]:q}"
        " --published-title {params.variants[published]:q} --csv {output.table} --markdown {output.markdown}"
        " --png {output.png} --pdf {output.pdf} > {log} 2>&1"


rule compare_tasks:
    input:
        accuracy=accuracy_table,
        script="workflow/scripts/compare_tasks.py",
        code=RESULTS_CODE,
    output:
        table=report(
            "results/tables/{collection}.csv",
            caption="../report/tasks.rst",
            category=collection_chapter,
            labels={"artefact": "5 every number (CSV)"},
        ),
        markdown="results/tables/{collection}.md",
        png=report(
            "results/figures/{collection}_tasks.png",
            caption="../report/tasks.rst",
            category=collection_chapter,
            labels={"artefact": "2 figure: accuracy by task"},
        ),
        pdf="results/figures/{collection}_tasks.pdf",
    log:
        "results/logs/compare_tasks/{collection}.log",
    wildcard_constraints:
        collection=collections_of("tasks"),
    conda:
        "../../envs/results.yaml"
    params:
        experiments=lambda wildcards: family_titles(wildcards.collection),
        variants=lambda wildcards: variant_titles(wildcards.collection),
        published_as=lambda wildcards: published_titles(wildcards.collection),
    message:
        "Following the methods of {wildcards.collection} over their tasks"
    shell:
        "python {input.script} --accuracy {input.accuracy} --experiments {params.experiments:q}"
        " --csv {output.table} --markdown {output.markdown} --png {output.png} --pdf {output.pdf}"
        " --published-as {params.published_as:q} --variants {params.variants:q} > {log} 2>&1"


rule compare_values:
    input:
        runs=runs_table,
        script="workflow/scripts/compare_values.py",
        code=RESULTS_CODE,
    output:
        table=report(
            "results/tables/{collection}.csv",
            caption="../report/values.rst",
            category=collection_chapter,
            labels={"artefact": "5 every number (CSV)"},
        ),
        markdown="results/tables/{collection}.md",
        png=report(
            "results/figures/{collection}_values.png",
            caption="../report/values.rst",
            category=collection_chapter,
            labels={"artefact": "2 figure: accuracy by value"},
        ),
        pdf="results/figures/{collection}_values.pdf",
    log:
        "results/logs/compare_values/{collection}.log",
    wildcard_constraints:
        collection=collections_of("values"),
    conda:
        "../../envs/results.yaml"
    params:
        values=values,
    message:
        "Drawing accuracy by value of {wildcards.collection}"
    shell:
        "python {input.script} --runs {input.runs} --title {params.values[title]:q} --name {params.values[name]:q}"
        " --values {params.values[numbers]:q} --csv {output.table} --markdown {output.markdown}"
        " --png {output.png} --pdf {output.pdf} > {log} 2>&1"


rule show_table:
    input:
        markdown="results/tables/{table}.md",
        script="workflow/scripts/show_table.py",
    output:
        report(
            "results/tables/{table}.html",
            caption="../report/table.rst",
            category=lambda wildcards: report_chapter("figure 2" if wildcards.table == "toy" else wildcards.table),
            labels={"artefact": "1 table"},
        ),
    log:
        "results/logs/show_table/{table}.log",
    wildcard_constraints:
        table="|".join([*config["collections"], "toy"]),
    conda:
        "../../envs/results.yaml"
    message:
        "Making a page of the table of {wildcards.table}"
    shell:
        "python {input.script} --markdown {input.markdown} --html {output} > {log} 2>&1"


rule summarise_cost:
    input:
        config="config/config.yaml",
        experiments=sorted({str(file) for e in EXPERIMENTS.values() for file in e.files}),
        runs="results/cached/runs.csv",
        script="workflow/scripts/summarise_cost.py",
        code=RESULTS_CODE,
    output:
        table="results/tables/cost.csv",
        markdown="results/tables/cost.md",
    log:
        "results/logs/summarise_cost.log",
    conda:
        "../../envs/results.yaml"
    message:
        "Adding up what tables and figures cost"
    shell:
        "python {input.script} --config {input.config} --runs {input.runs} --csv {output.table}"
        " --markdown {output.markdown} > {log} 2>&1"


# What the authors' code reaches was measured by peers/hypercl_accuracy.py, which needs a checkout of it.
rule compare_peers:
    input:
        peers="results/cached/hypercl_accuracy.csv",
        runs="results/cached/runs.csv",
        reference="config/reference.csv",
        script="workflow/scripts/compare_peers.py",
        code=RESULTS_CODE,
    output:
        table="results/tables/peers.csv",
        markdown="results/tables/peers.md",
    log:
        "results/logs/compare_peers.log",
    conda:
        "../../envs/results.yaml"
    params:
        margin=config["verdict_margin"],
    message:
        "Comparing with what the authors' code reaches"
    shell:
        "python {input.script} --peers {input.peers} --runs {input.runs} --reference {input.reference}"
        " --experiment SplitMNIST --margin {params.margin} --csv {output.table} --markdown {output.markdown}"
        " > {log} 2>&1"


# Takes what has been trained so far into results/cached. No rule makes those files, so that a fresh clone, which holds
# them, never starts a training to make them anew.
rule publish:
    log:
        "results/logs/publish.log",
    conda:
        "../../envs/results.yaml"
    params:
        experiments=[path for name in common_collections() for path in experiment_files(name)],
        margin=config["verdict_margin"],
        published_as=sorted({pair for name in common_collections() for pair in published_titles(name)}),
    message:
        "Publishing the finished runs of the paper's experiments into results/cached"
    shell:
        "(python workflow/scripts/collect_runs.py --experiments {params.experiments} --records results/runs"
        " --runs results/tables/finished_runs.csv --accuracy results/tables/finished_accuracy.csv"
        " && python workflow/scripts/publish_results.py --runs results/tables/finished_runs.csv"
        " --accuracy results/tables/finished_accuracy.csv --cached results/cached"
        " --reference config/reference.csv --margin {params.margin} --published-as {params.published_as:q}"
        " && mkdir -p results/samples results/cached/replay_samples && (cd results/samples"
        " && find . -name '[!.]*.npz' -path '*_mnist*' -exec cp --parents {{}} ../cached/replay_samples/ ';')"
        " && find results/tables '(' -name '*_confidence.csv' -o -name toy.csv -o -name toy_curves.csv"
        " -o -name split_mnist_plane.npz ')'"
        " -exec cp {{}} results/cached/ ';'"
        " && mkdir -p results/benchmarks results/cached/benchmark"
        " && find results/benchmarks -maxdepth 1 -type f -not -name 'benchmark.p*'"
        " -exec cp {{}} results/cached/benchmark/ ';') 2>&1 | tee {log}"


PAGE_TABLES = [
    "table1",
    "peers",
    "entropy",
    "entropy_test",
    "separate",
    "toy",
    "forms",
    "cost",
    "gpu_packs",
    "long_sequences",
    "long",
    "compression",
    "ablations",
    "transfer",
    "beta",
    "ewc_strength",
]
# Made of runs.csv and accuracy.csv, and beside them for those who look for one figure's numbers only.
DERIVED_TABLES = ["long", "compression", "ablations"]


# What the README and the pages beside it show of the results, so that it can be no older than results/cached.
rule readme:
    input:
        tables=[
            *expand("results/tables/{name}.md", name=PAGE_TABLES),
            "results/cached/benchmark/summary.md",
        ],
        derived=expand("results/tables/{name}.csv", name=DERIVED_TABLES),
        figures=expand(
            "results/figures/{name}.png",
            name=[
                "table1_final_accuracy",
                "table1_replay_samples",
                "entropy_confidence",
                "toy",
                "split_mnist_plane",
                "benchmark",
                "long_tasks",
                "compression_values",
                "ablations_variants",
                "ablations_replay_samples",
                "beta_values",
                "ewc_strength_values",
                "transfer_tasks",
            ],
        ),
    log:
        "results/logs/readme.log",
    conda:
        "../../envs/results.yaml"
    message:
        "Putting tables and figures into README.md and docs/"
    shell:
        "(for table in {input.tables}; do python workflow/scripts/update_pages.py --pages README.md docs/*.md"
        " --name $(basename $table .md) --markdown $table || exit 1; done"
        " && cp {input.figures} docs/ && cp {input.derived} results/cached/) > {log} 2>&1"
