#include "typed_subject.hpp"

void fovea_test::add_f32(subject_list& to) { add_element<element_kind::f32>(to); }
