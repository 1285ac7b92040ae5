# Continual learning with hypernetworks (von Oswald et al., ICLR 2020): entry point.
#   snakemake --cores all            the demo: digits, every method, every scenario, then its table and figures
#   snakemake --cores all tables     the paper's tables, from results/cached unless results_source is compute
#   snakemake --cores all figures    the paper's figures, likewise
#   snakemake --cores all stage      every dataset, downloaded where it is not there, checked and prepared
from snakemake.utils import min_version

min_version("9.0")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/aggregate.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/toy.smk"
include: "workflow/rules/landscape.smk"
include: "workflow/rules/benchmark.smk"


localrules:
    demo,
    tables,
    figures,


rule demo:
    default_target: True
    input:
        table_files("demo"),
        figure_files("demo"),
        DEMO_PLANE_FIGURES,


rule tables:
    input:
        [table_files(name) for name in common_collections()],
        TOY_TABLES,


rule figures:
    input:
        [figure_files(name) for name in common_collections()],
        TOY_FIGURES,
        PLANE_FIGURES,
        BENCHMARK_FIGURES,


# Every other collection is a target by its name.
for name in config["collections"]:
    if name != "demo":

        rule:
            name:
                name
            input:
                table_files(name),
                figure_files(name),
            localrule: True


onsuccess:
    print(closing_words())
