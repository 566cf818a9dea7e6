// fovea/kernel/arch.hpp - all that the library knows of instruction sets, a file each.
#pragma once

#include <fovea/kernel/arch/avx2.hpp>
#include <fovea/kernel/arch/avx512.hpp>
#include <fovea/kernel/arch/avx512_bf16.hpp>
#include <fovea/kernel/arch/generic.hpp>
#include <fovea/kernel/arch/neon64.hpp>
#include <fovea/kernel/arch/pair_products.hpp>
#include <fovea/kernel/arch/sse2.hpp>
