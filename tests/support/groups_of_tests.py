"""Which tests `make check` and `make thorough` run, which look at plots, and which are given to one test process together.

Paths are relative to `tests/`.
"""

CHECKED = (
    "test_package.py",
    "test_notebooks.py",
    "test_site.py",
    "docs/",
    "commands/submit/test_slurm.py",
    "commands/test_fold_recipe.py",
    "commands/test_paper_configs.py",
    "commands/test_slides_to_report.py",
    "cohort/fetch/test_next_commands.py",
    "training/test_fit_kills_short.py",
    "training/test_processes.py",
)
"""Files and folders whose slow tests try as a whole what a user gets, or start many processes: `make check` runs them"""

TOGETHER = ("experiment/export/", "docs/")
"""Folders whose session fixtures would otherwise be made by each test process"""

THOROUGH = (
    "backbone/test_fit_backbone.py::test_hardly_anything_is_learned_from_noise",
    "backbone/test_fit_backbone.py::test_if_variances_are_chosen_again",
    "benchmarks/",
    "callbacks/test_coordination.py::test_two_processes_train_as_one",
    "callbacks/test_resumable.py::test_a_killed_run_is_resumed_exactly[on_train_epoch_start",
    "callbacks/test_resumable.py::test_a_killed_run_is_resumed_exactly[on_validation_end",
    "commands/test_ablation.py::test_adding_or_removing",
    "commands/test_cohort_template.py::test_teacher_and_student_of_a_template_are_trained[regression]",
    "commands/test_real_cohort_section.py::test_test_patients_affect_no_fitted_number_and_no_weight[most_variable]",
    "commands/test_restained_copy.py",
    "commands/test_slide_vectors.py::test_crossval_and_its_baselines",
    "data/test_reading_process.py::test_a_signal_to_all_processes",
    "evaluation/test_shift.py::test_many_columns_of_few_patients",
    "evaluation/test_subgroup_gaps.py::test_the_interval_contains_the_true_gap_as_often",
    "experiment/crossval/test_leakage_luad.py",
    "experiment/crossval/test_quiet.py::test_folds_in_separate_processes",
    "experiment/export/test_files.py::test_other_aggregations_are_exported",
    "experiment/test_fit_defaults.py::test_every_class_has_its_short_name_in_both_commands[crossval]",
    "nn/test_compile.py::test_a_student_is_exported_for_bags_of_one_length",
    "nn/test_compile.py::test_a_whole_student_and_its_gradients_are_captured[prototypes]",
    "nn/test_compile.py::test_a_whole_student_and_its_gradients_are_captured[tissue attention]",
    "slides/stains/test_normalised_extraction.py::test_batches_readers_interruptions_and_shards_change_no_bit[vahadane]",
    "test_real_inputs.py::test_the_grade_of_gbmlgg",
    "training/test_slots.py::test_programs_explain_the_factors",
)
"""Slow tests that vary what another test tries, simulate many cohorts, or try benchmarks in small: `make thorough` runs
them, each week and before a release"""

DRAWN = (
    "evaluation/",
    "tasks/",
    "experiment/predict_slide/",
    "experiment/fold_models/",
    "experiment/test_metadata_stay_out.py",
    "experiment/test_patient_flow.py",
    "commands/test_demo.py",
    "commands/test_hostile_names.py",
    "commands/test_own_endpoint.py",
    "commands/test_security.py",
    "commands/test_slides_to_report.py",
    "commands/test_tile_maps.py",
    "test_package.py",
    "test_notebooks.py",
)
"""Files and folders whose tests look at plots, or for what must not stand in one; in all others plots are blank"""
