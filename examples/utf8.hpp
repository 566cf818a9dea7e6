// utf8.hpp - text that comes from outside is UTF-8, or is refused.
#pragma once

#include <utf8proc.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace examples {

/// f(code point) for each of a text. Throws std::invalid_argument with the place of the first byte, counted
/// from 1, that is no UTF-8: neither cut short, nor overlong, nor a surrogate, nor beyond U+10FFFF.
template <class F>
void each_code_point(std::string_view text, const F& f) {
  const auto* const bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  for (std::size_t at = 0; at < text.size();) {
    utf8proc_int32_t point = 0;
    const auto used = utf8proc_iterate(bytes + at, static_cast<utf8proc_ssize_t>(text.size() - at), &point);
    if (used <= 0) throw std::invalid_argument("invalid UTF-8 at byte " + std::to_string(at + 1));
    f(point);
    at += static_cast<std::size_t>(used);
  }
}

inline void check_utf8(std::string_view text) {
  each_code_point(text, [](utf8proc_int32_t) {});
}

}  // namespace examples
