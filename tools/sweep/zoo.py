"""The sweep takes these models by name: of each family its smallest variant."""

from __future__ import annotations

SETS: dict[str, tuple[str, ...]] = {
    "torchvision": (
        *("efficientnet_lite0", "alexnet", "vgg11_bn", "resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"),
        *("densenet121", "googlenet", "inception_v3", "squeezenet1_1", "mobilenet_v2", "mobilenet_v3_small"),
        *("mobilenet_v3_large", "mnasnet0_5", "shufflenet_v2_x1_0", "efficientnet_b0", "efficientnet_v2_s"),
        *("regnet_x_400mf", "regnet_y_400mf"),
        *("convnext_tiny", "swin_t", "swin_v2_t", "maxvit_t", "vit_b_32", "vit_b_16"),
    ),
    "timm": (
        *("timm:beit_base_patch16_224", "timm:gernet_s", "timm:convmixer_768_32", "timm:convnext_atto"),
        *("timm:cpubone_nano", "timm:csatv2", "timm:cspnext_tiny", "timm:davit_tiny", "timm:deit_tiny_patch16_224"),
        *("timm:densenet121", "timm:dpn48b", "timm:efficientformer_l1", "timm:tinynet_e", "timm:efficientvim_m1"),
        *("timm:efficientvit_b0", "timm:efficientvit_m0", "timm:fasternet_t0", "timm:fastvit_t8", "timm:hardcorenas_a"),
        *("timm:hgnetv2_b0", "timm:iformer_t", "timm:inception_resnet_v2", "timm:inception_v3", "timm:inception_v4"),
        *("timm:lcnetv2_small", "timm:lowformer_b0", "timm:mixer_s16_224", "timm:mobilenetv3_small_050"),
        *("timm:mobilenetv5_300m", "timm:mobilevit_xxs", "timm:nasnetalarge", "timm:nfnet_l0", "timm:pnasnet5large"),
        *("timm:rdnet_tiny", "timm:regnety_002", "timm:repghostnet_050", "timm:repvit_m0_9", "timm:resnest14d"),
        *("timm:resnet10t", "timm:resnetv2_18", "timm:samvit_base_patch16_224", "timm:selecsls42"),
        *("timm:legacy_seresnet18", "timm:shvit_s1", "timm:starnet_s050", "timm:swin_tiny_patch4_window7_224"),
        *("timm:swinv2_tiny_window8_256", "timm:swinv2_cr_tiny_224", "timm:tiny_vit_5m_224", "timm:vgg11"),
        *("timm:vit_tiny_patch16_224", "timm:vit_tiny_r_s16_p8_224", "timm:vit_relpos_small_patch16_224"),
        *("timm:vitamin_small_224", "timm:xception41p"),
    ),
    "aside": (
        *("timm:gcvit_xxtiny", "timm:levit_128s", "timm:mvitv2_tiny", "timm:xcit_nano_12_p16_224"),
        *("timm:hrnet_w18_small", "timm:twins_svt_small", "timm:focalnet_tiny_srf", "timm:nest_tiny"),
        *("timm:poolformerv2_s12", "timm:skresnet18"),
    ),
    "others": (
        *("timm:coat_tiny", "timm:convit_tiny", "timm:crossvit_tiny_240", "timm:edgenext_xx_small"),
        *("timm:cait_xxs24_224", "timm:volo_d1_224", "timm:pit_ti_224", "timm:visformer_tiny"),
        *("timm:tnt_s_legacy_patch16_224", "timm:ghostnet_050", "timm:eva02_tiny_patch14_224", "timm:hiera_tiny_224"),
        *("timm:dla34", "timm:res2net50_14w_8s", "timm:ese_vovnet19b_dw", "timm:rexnet_100"),
        *("timm:coatnet_nano_rw_224", "timm:inception_next_atto", "timm:mambaout_femto", "timm:nextvit_small"),
        *("timm:swiftformer_xs", "timm:convformer_s18", "timm:resmlp_12_224", "timm:gmlp_s16_224"),
        *("timm:botnet26t_256", "timm:halonet26t", "timm:lambda_resnet26t", "timm:pvt_v2_b0"),
        *("timm:efficientformerv2_s0", "timm:mobileone_s0", "timm:repvgg_a0", "timm:vit_medium_patch16_reg4_gap_256"),
        *("timm:vit_base_patch32_clip_224", "timm:vit_base_patch16_siglip_224", "timm:eca_botnext26ts_256"),
        *("timm:tresnet_m", "timm:xception71", "timm:mobilenetv4_conv_small", "timm:deit_tiny_distilled_patch16_224"),
        *("timm:sequencer2d_s", "timm:regnetz_b16", "timm:mobilevitv2_050", "timm:maxvit_rmlp_pico_rw_256"),
    ),
}
"""`aside`: ten families that were looked at only when those before were done; `others`: some more."""

SETS["keras"] = tuple(
    f"keras:{name}"
    for name in (
        *("ResNet50V2", "MobileNetV3Small", "EfficientNetV2B0", "DenseNet121", "ConvNeXtTiny", "Xception"),
        *("InceptionV3", "NASNetMobile", "vit"),
    )
)
SETS["jax"] = ("jax:flax_cnn", "jax:flax_vit", "jax:equinox_cnn", "jax:equinox_vit")
SETS["paddle"] = ("paddle:pplcnet",)

OTHERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "keras": ("tools.sweep.keras_case", ("tf2onnx", "keras")),
    "jax": ("tools.sweep.jax_case", ("jax2onnx",)),
    "paddle": ("tools.sweep.paddle_case", ("paddle2onnx",)),
}
"""Frameworks other than PyTorch: what stands before the colon of a model's name, its module here and its exporters."""
EXPORTERS = ("torchscript", "dynamo", *(exporter for _, exporters in OTHERS.values() for exporter in exporters))


def case_module(model: str) -> str:
    """The module that has the Comparison of a model."""
    return OTHERS.get(model.partition(":")[0], ("tools.sweep.torch_case", ()))[0]


def exporters_of(model: str) -> tuple[str, ...]:
    """The exporters that a model goes through."""
    return OTHERS.get(model.partition(":")[0], ("", EXPORTERS[:2]))[1]
