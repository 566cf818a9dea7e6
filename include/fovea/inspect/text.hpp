// fovea/inspect/text.hpp - labels and numbers as pictures and pages write them: well-formed for any input.
#pragma once

#include <fovea/index.hpp>

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

FOVEA_NAMESPACE_BEGIN
namespace inspect {

/// What stands where text has bytes that are no UTF-8, or characters that no document may hold.
inline constexpr char32_t replacement = 0xfffd;

/// f(code point) for each of UTF-8 text. A byte that begins no shortest, complete sequence, and a control
/// character that is no tab or line end, is U+FFFD.
template <class F>
void each_code_point(std::string_view text, const F& f) {
  for (std::size_t at = 0; at < text.size();) {
    const auto byte = [&](std::size_t i) {
      return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
    };
    const unsigned lead = byte(at);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    char32_t point = length == 1 ? lead : lead & (0x7fu >> length);
    bool good = length > 0 && lead < 0xf5;
    for (std::size_t i = 1; i < length && good; ++i) {
      good = (byte(at + i) & 0xc0) == 0x80;
      point = point << 6 | (byte(at + i) & 0x3f);
    }
    constexpr char32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    good = good && point >= least[length] && point <= 0x10ffff && !(point >= 0xd800 && point < 0xe000);
    at += good ? length : 1;
    const bool control = point < 0x20 && point != '\t' && point != '\n' && point != '\r';
    f(good && !control && point != 0xfffe && point != 0xffff ? point : replacement);
  }
}

inline void append_utf8(std::string& to, char32_t point) {
  const auto put = [&](char32_t byte) { to += static_cast<char>(byte); };
  if (point < 0x80) return put(point);
  if (point < 0x800) return put(0xc0 | point >> 6), put(0x80 | (point & 0x3f));
  if (point < 0x10000)
    put(0xe0 | point >> 12);
  else
    put(0xf0 | point >> 18), put(0x80 | (point >> 12 & 0x3f));
  put(0x80 | (point >> 6 & 0x3f)), put(0x80 | (point & 0x3f));
}

/// Text between tags or in a quoted attribute of XML and HTML.
inline std::string xml_escaped(std::string_view text) {
  std::string escaped;
  each_code_point(text, [&](char32_t point) {
    switch (point) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        append_utf8(escaped, point);
    }
  });
  return escaped;
}

/// A JSON string with its quotes, which may stand in a <script> of HTML or XML: no <, >, & in it.
inline std::string json_quoted(std::string_view text) {
  std::string quoted = "\"";
  each_code_point(text, [&](char32_t point) {
    constexpr std::string_view hex = "0123456789abcdef";
    if (point == '"' || point == '\\' || point == '<' || point == '>' || point == '&' || point < 0x20) {
      quoted += "\\u00";
      quoted += hex[point >> 4], quoted += hex[point & 15];
    } else {
      append_utf8(quoted, point);
    }
  });
  return quoted + '"';
}

/// At most `most` characters, the last one an ellipsis where some are left out.
inline std::string shortened(std::string_view text, index_type most) {
  index_type length = 0;
  each_code_point(text, [&](char32_t) { ++length; });
  std::string shortened;
  index_type at = 0;
  each_code_point(text, [&](char32_t point) {
    if (length <= most || at < most - 1) append_utf8(shortened, point);
    ++at;
  });
  if (length > most) append_utf8(shortened, 0x2026);
  return shortened;
}

/// How wide text is about to be, in units of the font's size: 0.6 a character, 1 for those of East Asia and
/// emoji.
inline double text_width(std::string_view text) {
  double width = 0;
  each_code_point(text, [&](char32_t point) { width += point >= 0x1100 && point != 0x2026 ? 1 : 0.6; });
  return width;
}

/// A number with up to so many decimals, trailing zeros cut off, whatever the locale.
inline std::string number(double x, int decimals = 2) {
  char text[64];
  const auto written = std::to_chars(text, text + sizeof text, x, std::chars_format::fixed, decimals);
  if (written.ec != std::errc()) return "?";  // beyond 1e50
  std::string shortened(text, written.ptr);
  if (shortened.find('.') != std::string::npos) {
    while (shortened.back() == '0') shortened.pop_back();
    if (shortened.back() == '.') shortened.pop_back();
  }
  return shortened == "-0" ? "0" : shortened;
}

/// Appends the parts in order: text as it is, integers in decimal, other numbers with up to 2 decimals.
template <class... Parts>
void append(std::string& to, const Parts&... parts) {
  const auto add = [&](const auto& part) {
    using P = std::remove_cvref_t<decltype(part)>;
    if constexpr (std::is_integral_v<P>)
      to += std::to_string(part);
    else if constexpr (std::is_floating_point_v<P>)
      to += number(part);
    else
      to += std::string_view(part);
  };
  (add(parts), ...);
}

/// Bytes as base64 (RFC 4648, section 4).
inline std::string base64(std::string_view bytes) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    std::uint32_t group = 0;
    for (std::size_t i = 0; i < 3; ++i)
      group = group << 8 | (at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0u);
    for (std::size_t i = 0; i < 4; ++i)
      text += i <= bytes.size() - at ? digits[group >> (18 - 6 * i) & 63] : '=';
  }
  return text;
}

}  // namespace inspect
FOVEA_NAMESPACE_END
