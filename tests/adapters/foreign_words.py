"""The arguments of other libraries' optimizers of our names: torch, optax, Keras and Transformers.

They are written down, so that each adapter is tried with the words of all without loading another adapter's framework;
the test of the adapter whose framework it is compares them with what is installed. `COMMON` are those of all its
optimizers.
"""

import inspect
import re
from collections.abc import Callable, Collection
from typing import Any

import pytest

COMMON: dict[str, str] = {
    "torch": "params lr maximize foreach",
    "optax": "learning_rate",
    "transformers": "params lr",
    "elsewhere": "lr learning_rate wd max_grad_norm",
    "keras": (
        "learning_rate weight_decay clipnorm clipvalue global_clipnorm use_ema ema_momentum "
        "ema_overwrite_frequency loss_scale_factor gradient_accumulation_steps name"
    ),
}

WORDS: dict[str, dict[str, str]] = {
    "torch": {
        "adadelta": "rho eps weight_decay capturable differentiable",
        "adafactor": "beta2_decay eps d weight_decay",
        "adagrad": "lr_decay weight_decay initial_accumulator_value eps differentiable fused",
        "adam": "betas eps weight_decay amsgrad capturable differentiable fused decoupled_weight_decay",
        "adamax": "betas eps weight_decay differentiable capturable",
        "adamw": "betas eps weight_decay amsgrad capturable differentiable fused",
        "asgd": "lambd alpha t0 weight_decay differentiable capturable",
        "muon": "weight_decay momentum nesterov ns_coefficients eps ns_steps adjust_lr_fn",
        "nadam": "betas eps weight_decay momentum_decay decoupled_weight_decay capturable differentiable",
        "radam": "betas eps weight_decay decoupled_weight_decay capturable differentiable",
        "rmsprop": "alpha eps weight_decay momentum centered capturable differentiable",
        "rprop": "etas step_sizes capturable differentiable",
        "sgd": "momentum dampening weight_decay nesterov differentiable fused",
        "sparseadam": "betas eps",
        "lbfgs": "max_iter max_eval tolerance_grad tolerance_change history_size line_search_fn",
    },
    "optax": {
        "acprop": "b1 b2 eps eps_root weight_decay mask",
        "adadelta": "rho eps weight_decay weight_decay_mask",
        "adafactor": (
            "min_dim_size_to_factor decay_rate decay_offset multiply_by_parameter_scale clipping_threshold "
            "momentum dtype_momentum weight_decay_rate eps factored weight_decay_mask"
        ),
        "adagrad": "initial_accumulator_value eps",
        "adam": "b1 b2 eps eps_root mu_dtype nesterov",
        "adamax": "b1 b2 eps",
        "adamaxw": "b1 b2 eps weight_decay mask",
        "adamw": "b1 b2 eps eps_root mu_dtype weight_decay mask nesterov",
        "adan": "b1 b2 b3 eps eps_root weight_decay mask",
        "ademamix": "b1 b2 b3 alpha eps eps_root mu_dtype weight_decay mask",
        "adopt": "b1 b2 eps mu_dtype nesterov use_clipping clip_value_fn",
        "amsgrad": "b1 b2 eps eps_root mu_dtype bias_correction_mu bias_correction_nu",
        "cocob": "alpha eps weight_decay mask",
        "dadaptadamw": "betas eps estim_lr0 weight_decay",
        "dog": "init_step eps weight_decay mask",
        "dowg": "init_estim_sq_dist eps weight_decay mask",
        "fromage": "min_norm",
        "lamb": "b1 b2 eps eps_root weight_decay mask",
        "lars": "weight_decay weight_decay_mask trust_coefficient eps trust_ratio_mask momentum nesterov",
        "lbfgs": "memory_size scale_init_precond linesearch",
        "lion": "b1 b2 mu_dtype weight_decay mask",
        "lookahead": "fast_optimizer sync_period slow_step_size reset_state",
        "madgrad": "momentum weight_decay eps",
        "muon": (
            "ns_coeffs ns_steps beta eps weight_decay weight_decay_mask mu_dtype nesterov adaptive "
            "preconditioning adam_b1 adam_b2 adam_eps_root adam_weight_decay adam_learning_rate "
            "muon_weight_dimension_numbers consistent_rms"
        ),
        "nadam": "b1 b2 eps eps_root mu_dtype nesterov",
        "novograd": "b1 b2 eps eps_root weight_decay",
        "optimisticadam": "optimism b1 b2 eps eps_root mu_dtype nesterov",
        "optimisticadamv2": "alpha beta b1 b2 eps eps_root mu_dtype nesterov",
        "optimisticgradientdescent": "alpha beta",
        "prodigy": "betas beta3 eps estim_lr0 estim_lr_coef weight_decay safeguard_warmup",
        "radam": "b1 b2 eps eps_root threshold nesterov",
        "rmsprop": "decay eps initial_scale eps_in_sqrt centered momentum nesterov bias_correction",
        "rprop": "eta_minus eta_plus min_step_size max_step_size",
        "sam": "optimizer adv_optimizer sync_period reset_state opaque_mode batch_axis_name",
        "sgd": "momentum nesterov accumulator_dtype",
        "signum": "beta accumulator_dtype",
        "simplifiedademamix": "b1 b2 alpha eps eps_root weight_decay mask",
    },
    "keras": {
        "adadelta": "rho epsilon",
        "adafactor": "beta_2_decay epsilon_1 epsilon_2 clip_threshold relative_step",
        "adagrad": "initial_accumulator_value epsilon",
        "adam": "beta_1 beta_2 epsilon amsgrad",
        "adamax": "beta_1 beta_2 epsilon",
        "adamw": "beta_1 beta_2 epsilon amsgrad",
        "lamb": "beta_1 beta_2 epsilon",
        "lion": "beta_1 beta_2",
        "muon": (
            "adam_beta_1 adam_beta_2 adam_weight_decay epsilon exclude_layers exclude_embeddings muon_a "
            "muon_b muon_c adam_lr_ratio momentum ns_steps nesterov rms_rate"
        ),
        "nadam": "beta_1 beta_2 epsilon",
        "rmsprop": "rho momentum epsilon centered",
        "sgd": "momentum nesterov",
    },
    "transformers": {
        "adafactor": ("eps clip_threshold decay_rate beta1 weight_decay scale_parameter relative_step warmup_init"),
    },
    "elsewhere": {
        "adabound": "final_lr gamma amsbound ams_bound",
        "adam": "correct_bias weight_decouple decoupled_decay adam_w_mode optim_bits percentile_clipping block_wise",
        "adammini": "named_parameters dim n_heads n_kv_heads",
        "adamw": "correct_bias no_deprecation_warning is_paged min_8bit_size",
        "adan": "betas no_prox",
        "ademamix": "alpha_warmup beta3_warmup t_alpha_beta3 optim_bits is_paged",
        "dadaptadamw": "decouple layer_scale fsdp_in_use log_every",
        "dadaptlion": "fsdp_in_use log_every",
        "dadaptsgd": "fsdp_in_use log_every",
        "dog": "reps_rel init_eta",
        "fromage": "p_bound",
        "laprop": "betas amsgrad centered",
        "lars": "trust_coeff trust_clip always_adapt dampening",
        "lion": "use_triton decoupled_weight_decay",
        "lookahead": "k alpha base_optimizer optimizer",
        "muon": "adam_lr adam_betas adam_eps",
        "prodigy": "decouple slice_p fsdp_in_use",
        "qhadam": "betas nus decouple_weight_decay",
        "rmsprop": "alpha",
        "sam": "rho base_optimizer",
        "sgd": "nesterovs_momentum learning_rate_init eta0",
        "tiger": "beta",
    },
}


def foreign_words(name: str) -> list[str]:
    """All words that someone from another library may type for this optimizer."""
    texts = [f"{COMMON.get(library, '')} {words.get(name, '')}" for library, words in WORDS.items()]
    return sorted(set(" ".join(texts).split()))


def check_answers(name: str, takes: Collection[str], call: Callable[..., Any]) -> None:
    """Every foreign word is taken, or refused with a word that is, or with a sentence that says what to do."""
    for word in foreign_words(name):
        if word in takes:
            continue
        with pytest.raises(TypeError, match=rf"has no argument `{word}`") as refused:
            call(**{word: 1})
        answer = str(refused.value).partition(f"has no argument `{word}`")[2].partition(" It takes: ")[0]
        meant = re.findall(r"`(\w+)`", answer.partition("Did you mean ")[2].partition("?")[0])
        assert len(answer.split()) > 3, f"{name}({word}=...): {refused.value}"
        assert set(meant) <= set(takes), f"{name}({word}=...): {answer}"


def check_installed(library: str, name: str, theirs: Callable[..., Any]) -> None:
    """The words that are written down have all that the installed library has."""
    kinds = inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL
    parameters = {k for k, p in inspect.signature(theirs).parameters.items() if k != "self" and p.kind not in kinds}
    assert parameters <= set(f"{COMMON[library]} {WORDS[library].get(name, '')}".split())
