"""The words of torch, optax, Keras, Transformers, timm and pytorch_optimizer, as data.

A test reads the signatures of the installed libraries, so that no word of theirs is missing.
"""

from __future__ import annotations

#: Word -> the core words that it may mean; the first that the optimizer has is taken. Words with a space between them
#: are meant together.
WORDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("lr", "learning_rate_init", "eta", "eta0", "step_size", "rate"), ("learning_rate",)),
    "betas": ("beta1 beta2 beta3", "beta1 beta2"),
    **dict.fromkeys(("b1", "beta_1", "adam_beta1", "momentum"), ("beta1",)),
    **dict.fromkeys(("b2", "beta_2", "adam_beta2"), ("beta2",)),
    **dict.fromkeys(("b3", "beta_3"), ("beta3",)),
    "beta": ("momentum", "beta1"),
    **dict.fromkeys(("eps", "epsilon", "adam_epsilon"), ("eps", "eps1 eps2")),
    "epsilon_1": ("eps1",),
    **dict.fromkeys(("epsilon_2", "min_scale"), ("eps2",)),
    "epsilon_root": ("eps_root",),
    **dict.fromkeys(("weight_decay_rate", "wd", "l2"), ("weight_decay",)),
    "alpha": ("rho", "slow_step_size"),
    "rho": ("decay_rate", "radius", "gamma"),
    "decay": ("rho", "decay_rate", "ema_decay"),
    "decay_rate": ("beta2_decay", "rho"),
    "beta_2_decay": ("beta2_decay",),
    **dict.fromkeys(("d", "clipping_threshold", "clip_threshold"), ("clip_threshold", "d0")),
    "multiply_by_parameter_scale": ("scale_parameter",),
    "etas": ("eta_minus eta_plus",),
    "step_sizes": ("min_step_size max_step_size",),
    "estim_lr0": ("d0",),
    "estim_lr_coef": ("d_coef",),
    **dict.fromkeys(("ns_coeffs", "muon_a", "muon_b", "muon_c"), ("ns_coefficients",)),
    "adjust_lr_fn": ("adjust",),
    "consistent_rms": ("rms_rate",),
    "ns_epsilon": ("eps",),
    **dict.fromkeys(("adamw_lr", "adam_learning_rate", "adam_lr"), ("adamw_learning_rate",)),
    **dict.fromkeys(("adam_ratio", "adam_lr_ratio"), ("adamw_ratio",)),
    **dict.fromkeys(("adamw_betas", "adam_betas"), ("adamw_beta1 adamw_beta2",)),
    **dict.fromkeys(("adamw_beta_1", "adam_b1", "adam_beta_1"), ("adamw_beta1", "beta1")),
    **dict.fromkeys(("adamw_beta_2", "adam_b2", "adam_beta_2"), ("adamw_beta2", "beta2")),
    **dict.fromkeys(("adamw_epsilon", "adam_eps"), ("adamw_eps",)),
    "adam_weight_decay": ("adamw_weight_decay",),
    "nesterovs_momentum": ("nesterov",),
    "initial_accumulator_value": ("initial_scale",),
    "initial_scale": ("initial_accumulator_value",),
    "memory_size": ("history_size",),
    "schedule_decay": ("momentum_decay",),
    "ns_iterations": ("ns_steps",),
    "ema": ("use_ema",),
    "ema_decay": ("ema_momentum",),
    **dict.fromkeys(("linesearch", "line_search"), ("line_search_fn",)),
    "k": ("sync_period",),
    "mu": ("momentum",),
    "key": ("seed",),
    **dict.fromkeys(("base_optimizer", "fast_optimizer", "optimizer"), ("base",)),
    **dict.fromkeys(("mu_dtype", "accumulator_dtype", "dtype_momentum"), ("state_dtype",)),
    **dict.fromkeys(("max_grad_norm", "global_clipnorm", "clip_grad_norm"), ("max_grad_norm", "global_clipnorm")),
    **dict.fromkeys(("mask", "weight_decay_mask"), ("mask",)),
    "centred": ("centered",),
    "trust_coeff": ("trust_coefficient",),
    **dict.fromkeys(("always_adapt", "trust_ratio_mask"), ("adapt_vectors",)),
    "init_step": ("init_step_type init_step_value",),
    **dict.fromkeys(("reps_rel", "init_eta"), ("init_step_value",)),
    "alpha_warmup": ("t_alpha",),
    "beta3_warmup": ("t_beta3",),
    "t_alpha_beta3": ("t_alpha t_beta3",),
    "nus": ("nu1 nu2",),
    **dict.fromkeys(("preconditioner_lr", "precondition_lr"), ("precond_lr",)),
    **dict.fromkeys(("preconditioner_init_scale", "precondition_init_scale"), ("precond_init_scale",)),
    "pre_conditioner_update_probability": ("preconditioner_update_probability",),
    "momentum_into_precondition_update": ("momentum_into_precond_update",),
    "final_lr": ("final_ratio",),
    **dict.fromkeys(("ams_bound", "amsgrad"), ("amsbound",)),
}

_CLIP = (
    "Clip the gradients before the optimizer is given them; where it takes `max_grad_norm` or `global_clipnorm`, "
    "that is the norm of all of them together."
)
_SCHEDULE = "Let a schedule of the framework's give the learning rate, warm-up included."
_RUNS = "It chooses how PyTorch runs a step; where there is a choice here, `kernel` makes it."
_AROUND = "It is not the optimizer's: average, accumulate or scale in the loop around it."
_DECAY = "Where weight decay acts is the optimizer's own: `adamw` decouples it, `adam` adds it to the gradient."
_STORED = 'Say how memory is stored by `state_dtype`, "bfloat16" for one.'
_DTYPE = "Memory is kept by what steps the rule: HostOptimizer(rule, params, state_dtype=...)."
_COPIES = "The copies are set equal after every period and nothing else is reset."

_MEASURED = {"fsdp_in_use": "Sharded parameters are seen as such.", "log_every": "The state holds what is learned."}

#: What to do about a word that no argument stands for; beside an argument, how its meaning differs there.
SENTENCES: dict[str, str] = {
    **dict.fromkeys(("clipnorm", "clipvalue", "global_clipnorm", "max_grad_norm", "clip_grad_norm"), _CLIP),
    **dict.fromkeys(("foreach", "fused", "capturable", "differentiable", "use_triton"), _RUNS),
    **dict.fromkeys(("use_ema", "ema_momentum", "ema_overwrite_frequency"), _AROUND),
    **dict.fromkeys(("loss_scale_factor", "gradient_accumulation_steps"), _AROUND),
    **dict.fromkeys(("decoupled_weight_decay", "weight_decouple", "decoupled_decay", "decouple"), _DECAY),
    **dict.fromkeys(("decouple_weight_decay", "no_prox"), _DECAY),
    **dict.fromkeys(("bias_correction_mu", "bias_correction_nu"), "The moments are always corrected."),
    "adam_w_mode": _DECAY,
    **dict.fromkeys(("mask", "weight_decay_mask"), "Give what does not decay a group, or an optimizer, without decay."),
    **dict.fromkeys(("optim_bits", "block_wise", "min_8bit_size", "percentile_clipping", "is_paged"), _STORED),
    **dict.fromkeys(("mu_dtype", "accumulator_dtype", "dtype_momentum", "state_dtype"), _DTYPE),
    **dict.fromkeys(("weight_decay", "weight_decay_rate", "wd", "l2"), "It has no weight decay; add it to the loss."),
    **dict.fromkeys(("schedule", "lr_schedule", "scheduler", "warmup_steps", "num_warmup_steps"), _SCHEDULE),
    "name": "Optimizers here have the name of their class.",
    "params": "An optimizer of this framework is given no parameters when it is made.",
    "decay": "Let the learning rate fall by a schedule.",
    "correct_bias": "The moments are always corrected.",
    "jit_compile": "The framework's own function that compiles a step does so.",
    "no_deprecation_warning": "There is no such warning.",
}

#: The same for one optimizer.
SENTENCES_OF: dict[str, dict[str, str]] = {
    "adabound": {"final_lr": "It is a multiple of the learning rate."},
    "adafactor": {
        "decay_rate": "It is negative, as in Transformers; optax gives it the other sign.",
    },
    "adammini": {
        **dict.fromkeys(("dim", "n_heads", "n_kv_heads"), "Queries and keys have a second moment for each output."),
        "named_parameters": "Parameters are told apart by their shapes.",
    },
    "dadaptadamw": {"layer_scale": "All parameters have the same rate.", **_MEASURED},
    "dadaptlion": _MEASURED,
    "dadaptsgd": _MEASURED,
    "dion": {
        "rank_multiple_of": "The rank is rounded up to a whole number.",
        **dict.fromkeys(("power_iters", "qr_method", "rcqr_oversample"), "A step iterates once, by Householder's QR."),
        "mixed_precision_config": _DTYPE,
    },
    "dog": {
        "reps_rel": 'That is what "heuristic" as init_step_type says.',
        "init_eta": 'That is what "learning_rate" as init_step_type says.',
    },
    "fromage": {"p_bound": "Parameters are not bounded; they shrink in every step."},
    "kron": {
        "merge_dims": "A kernel is the matrix of its outputs by all else.",
        "balance_prob": "Factors are balanced at every hundredth step at which they learn.",
        **dict.fromkeys(("precond_dtype", "precondition_dtype"), "Factors are kept in float32 or wider."),
    },
    "lars": {
        "always_adapt": "It asks for the number of axes, and not for weight decay.",
        "trust_ratio_mask": "It asks for the number of axes alone.",
        "trust_clip": "The ratio has no bound.",
        "dampening": "The buffer takes all of each step.",
    },
    "adopt": {"clip_value_fn": "The bound is the fourth root of the number of steps before."},
    "laprop": dict.fromkeys(("amsgrad", "centered"), "It divides by the root of the mean of squares as it is."),
    "lbfgs": {"scale_init_precond": "The first direction is always scaled by the newest pair."},
    "lookahead": {"reset_state": _COPIES},
    "muon": {
        "adam_lr_ratio": "The AdamW part can be given a learning rate of its own.",
        "adam_eps_root": "The AdamW part adds nothing under its root.",
        "adaptive": "Steps are not scaled by the dual norm.",
        "preconditioning": "The iteration is the authors' own, in no other form.",
        "consistent_rms": 'With adjust="match_rms_adamw".',
        "muon_weight_dimension_numbers": "A parameter's shape and name say whether it is stepped as a matrix.",
        **dict.fromkeys(("muon_a", "muon_b", "muon_c"), "It holds all three numbers."),
    },
    "nadam": {"nesterov": "NAdam always looks ahead."},
    "radam": {"nesterov": "RAdam never looks ahead; NAdam and Adam can."},
    "prodigy": {"slice_p": "All elements are measured.", **_MEASURED},
    "sam": {
        "sync_period": "Every step seeks the worst point.",
        "reset_state": "The base keeps its memory from step to step.",
        "opaque_mode": "A step always evaluates the model by the closure.",
        "batch_axis_name": "Reduce gradients in the closure.",
        "adv_optimizer": "The worst point is sought along the gradient.",
    },
}

#: Other libraries' names of optimizers, without what `similar_name` takes off.
NAMES = {
    **dict.fromkeys(("momentum", "nag", "nesterov", "nesterovmomentum", "sgdm", "sgdmomentum", "sgdw"), "sgd"),
    "adamwithamsgrad": "amsgrad",
    "adaptivemomentestimation": "adam",
    **dict.fromkeys(("sharpnessawareminimization", "gsam", "asam"), "sam"),
    "stochasticgradientdescent": "sgd",
    "averagedsgd": "asgd",
    "dadaptadam": "dadaptadamw",
    "larc": "lars",
    "nadamw": "nadam",
    "galoreadafactor": "adafactor",
    "ranger": "lookahead",
    "moonlight": "muon",
    "strongwolfe": "lbfgs",
    **dict.fromkeys(("psgd", "psgdkron", "kronpsgd"), "kron"),
}
#: What names of other libraries say besides the optimizer: who has made it, how it runs, how it stores.
ADDED = ["deepspeedcpu", "torch", "hf", "keras", "optax", "timm", "bnb", "apex", "xla", "npu", "torchao", "fused"]
ADDED += ["foreach", "capturable", "distributed", "anyprecision", "paged", "scale", "8bit", "4bit", "32bit", "fp8"]
ADDED += ["optimizer", "legacy", "cpu", "multitensor", "galore", "layerwise"]
