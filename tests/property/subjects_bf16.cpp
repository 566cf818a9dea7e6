#include "typed_subject.hpp"

void fovea_test::add_bf16(subject_list& to) { add_element<element_kind::bf16>(to); }
