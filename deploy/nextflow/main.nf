// Slides to a cross-validation's report: extraction in parts, a check of the store, folds, and their evaluation.
//
//   nextflow run deploy/nextflow -profile slurm,apptainer -params-file params.yaml
//
// All processes work on one store and one folder of results on a file system that every node shares: dmml keeps its own
// record of what is done there, so that Nextflow stages no file, and a repeated run continues whatever was interrupted.

nextflow.enable.dsl = 2

params.slides = null      // folder of slides
params.features = null    // store to create or to continue
params.config = null      // config of a teacher's fit, with absolute paths, whose data.features is the store
params.crossval = null    // folder of the cross-validation
params.shards = 4
params.folds = 5

process EXTRACT {
    label 'gpu'
    tag "${shard} of ${params.shards}"

    input:
    val shard

    output:
    val shard

    script:
    """
    dmml extract '${params.slides}' --out '${params.features}' --shard ${shard}/${params.shards}
    """
}

process VERIFY {
    input:
    val shards

    output:
    val true

    script:
    """
    dmml features verify '${params.features}'
    """
}

process FOLD {
    label 'gpu'
    tag "${fold}"

    input:
    val fold
    val is_verified

    output:
    val fold

    script:
    """
    dmml crossval --config '${params.config}' --out '${params.crossval}' --only-fold ${fold}
    """
}

process COLLECT {
    input:
    val folds

    output:
    val true

    script:
    """
    dmml crossval --config '${params.config}' --out '${params.crossval}' --collect
    """
}

workflow {
    def missing = ['slides', 'features', 'config', 'crossval'].findAll { !params[it] }
    if (missing) {
        error "name ${missing.collect { '--' + it }.join(', ')}, as absolute paths on a file system that all nodes share"
    }
    EXTRACT(Channel.of(1..params.shards))
    VERIFY(EXTRACT.out.collect())
    FOLD(Channel.of(0..(params.folds - 1)), VERIFY.out)
    COLLECT(FOLD.out.collect())
}
