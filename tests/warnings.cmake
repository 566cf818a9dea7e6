# What other people's builds ask of headers: the warnings of fmt's own tests and some more, of the compilers' front ends.
set(all_warnings -Wall -Wextra -Wpedantic -Wcast-align -Wcast-qual -Wconversion -Wdouble-promotion -Wextra-semi -Wformat=2
    -Wmissing-declarations -Wnon-virtual-dtor -Wold-style-cast -Woverloaded-virtual -Wpointer-arith -Wredundant-decls -Wshadow
    -Wsign-conversion -Wswitch-default -Wswitch-enum -Wundef -Wunused -Wwrite-strings -Wzero-as-null-pointer-constant)
set(all_warnings_GNU ${all_warnings} -pedantic-errors -Wctor-dtor-privacy -Wdisabled-optimization -Wduplicated-branches
    -Wduplicated-cond -Winvalid-pch -Wlogical-op -Wmissing-include-dirs -Wmissing-noreturn -Wnoexcept -Wshift-overflow=2
    -Wsized-deallocation -Wtrampolines -Wuseless-cast -Wvector-operation-performance)
set(all_warnings_Clang ${all_warnings} -Wdeprecated -Wmissing-noreturn -Wshadow-all -Wweak-vtables)
