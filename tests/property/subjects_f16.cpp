#include "typed_subject.hpp"

void fovea_test::add_f16(subject_list& to) { add_element<element_kind::f16>(to); }
