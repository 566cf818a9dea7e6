#include "typed_subject.hpp"

void fovea_test::add_f64(subject_list& to) { add_element<element_kind::f64>(to); }
