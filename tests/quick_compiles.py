"""XLA_FLAGS of tests: most of their time goes to compiling small programs that run once, so the compiler takes its
shorter ways to machine code."""


def flags(devices: int, given: str = "") -> str:
    """For so many virtual CPU devices, behind the flags that are given."""
    ours = [f"--xla_force_host_platform_device_count={devices}", "--xla_backend_optimization_level=0"]
    return " ".join([given, *ours, "--xla_cpu_use_fusion_emitters=false"]).strip()
