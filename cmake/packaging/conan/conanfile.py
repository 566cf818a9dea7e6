"""fovea for Conan 2, from a checkout: conan create cmake/packaging/conan

Eigen and xsimd are those of ConanCenter, or the system's where a profile has them under [platform_requires]."""
import re
from pathlib import Path

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.files import copy

root = Path(__file__).parent.parent.parent.parent


class Fovea(ConanFile):
    name = "fovea"
    description = "Exact, fused attention kernels for CPUs"
    license = "Apache-2.0"
    topics = ("attention", "transformer", "header-only", "simd")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    no_copy_source = True

    def set_version(self):
        config = (root / "include/fovea/config.hpp").read_text(encoding="utf-8")
        self.version = ".".join(re.findall(r"#define FOVEA_VERSION_\w+ (\d+)", config)[:3])

    def export_sources(self):
        for pattern in ("include/*", "LICENSE"):
            copy(self, pattern, src=str(root), dst=self.export_sources_folder)

    def requirements(self):
        self.requires("eigen/[>=3.4.0 <4]", transitive_headers=True)
        self.requires("xsimd/[>=8.1.0 <15]", transitive_headers=True)

    def package_id(self):
        self.info.clear()

    def validate(self):
        check_min_cppstd(self, 20)

    def package(self):
        for header in ("*.hpp", "*.h"):
            copy(self, header, src=f"{self.source_folder}/include", dst=f"{self.package_folder}/include")
        copy(self, "LICENSE", src=self.source_folder, dst=f"{self.package_folder}/licenses")

    def package_info(self):
        self.cpp_info.bindirs, self.cpp_info.libdirs = [], []
        self.cpp_info.set_property("cmake_target_name", "fovea::fovea")
        if self.settings.os in ("Linux", "FreeBSD"):
            self.cpp_info.system_libs = ["pthread"]
