// utf8.hpp - text that comes from outside is UTF-8, or is refused.
#pragma once

#include <utf8proc.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace examples {

struct code_point {
  utf8proc_int32_t point = -1;
  std::size_t size = 0;  // in bytes; 0: the text does not begin with UTF-8
};

/// The first code point of a text: UTF-8 is neither cut short, nor overlong, nor a surrogate, nor beyond
/// U+10FFFF.
inline code_point first_code_point(std::string_view text) {
  code_point c;
  const auto used = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                     static_cast<utf8proc_ssize_t>(text.size()), &c.point);
  if (used > 0) c.size = static_cast<std::size_t>(used);
  return c;
}

/// f(code point) for each of a text. Throws std::invalid_argument with the number of the first byte, counted
/// from 1, that is no UTF-8.
template <class F>
void each_code_point(std::string_view text, const F& f) {
  for (std::size_t at = 0; at < text.size();) {
    const code_point c = first_code_point(text.substr(at));
    if (c.size == 0) throw std::invalid_argument("invalid UTF-8 at byte " + std::to_string(at + 1));
    f(c.point);
    at += c.size;
  }
}

inline void check_utf8(std::string_view text) {
  each_code_point(text, [](utf8proc_int32_t) {});
}

}  // namespace examples
