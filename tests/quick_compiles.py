"""XLA_FLAGS of tests: most of their time goes to compiling small programs that run once, so the compiler takes its
shorter ways to machine code."""


def flags(devices: int, given: str = "") -> str:
    """For so many virtual CPU devices, behind the flags that are given."""
    ours = [f"--xla_force_host_platform_device_count={devices}", "--xla_backend_optimization_level=0"]
    # a program in one piece: cut into pieces for several threads, it takes more of all of them
    ours += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
    return " ".join([given, *ours]).strip()
