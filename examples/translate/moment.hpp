// translate/moment.hpp - a date, perhaps with a time; as ISO 8601 writes it and as a pattern of a language
// does.
#pragma once

#include "language.hpp"

#include <chrono>
#include <optional>
#include <stdexcept>

namespace translate {

struct clock_time {
  int hour, minute;
  friend constexpr bool operator==(clock_time, clock_time) = default;
};

struct moment {
  std::chrono::year_month_day date;
  std::optional<clock_time> time;
};

/// 2021-03-03 or 2021-03-03T14:05
inline std::string iso(const moment& m) {
  std::string text = digits(static_cast<int>(m.date.year())) + "-" +
                     two_digits(static_cast<int>(static_cast<unsigned>(m.date.month()))) + "-" +
                     two_digits(static_cast<int>(static_cast<unsigned>(m.date.day())));
  if (m.time) text += "T" + two_digits(m.time->hour) + ":" + two_digits(m.time->minute);
  return text;
}

/// A pattern with value(field) in place of each {field}.
std::string expand(std::string_view pattern, const auto& value) {
  std::string text;
  for (std::size_t at = 0; at < pattern.size();) {
    const std::size_t open = pattern.find('{', at);
    text.append(pattern.substr(at, open - at));
    if (open == std::string_view::npos) break;
    const std::size_t close = pattern.find('}', open);
    text += value(pattern.substr(open + 1, close - open - 1));
    at = close + 1;
  }
  return text;
}

inline bool has(std::string_view pattern, std::string_view field) {
  return pattern.find(field) != std::string_view::npos;
}

/// Whether a time style needs a time at all, and whether it can say this one so that nothing else is meant.
inline bool needs_time(std::string_view style) { return style != "{date}"; }
inline bool can_say(std::string_view style, clock_time t) {
  const bool twelve = t.minute == 0 && t.hour % 12 == 0;
  const int minutes = 60 * t.hour + t.minute;
  if (has(style, "{noon}")) return twelve;
  if (has(style, "{spoken}")) return t.minute % 5 == 0 && !twelve && minutes >= 60 && minutes <= 23 * 60 + 30;
  if (has(style, "{am}") && twelve) return false;         // people differ on what 12 am is
  if (has(style, "{hour}") && t.hour < 13) return false;  // "two" may be said in the afternoon too
  if (has(style, "{min}") || has(style, "{minute}")) return t.minute > 0;
  return has(style, "{mm}") || t.minute == 0;
}

/// Month before day in digits is American, which am or pm makes clear.
inline bool can_join(std::string_view date_style, std::string_view time_style) {
  return !has(date_style, "{n}/{d}") || has(time_style, "{am}");
}

inline std::string write_date(const language& in, std::string_view style, std::chrono::year_month_day date) {
  const int day = static_cast<int>(static_cast<unsigned>(date.day())), year = static_cast<int>(date.year());
  const unsigned month = static_cast<unsigned>(date.month()) - 1;
  const unsigned weekday = std::chrono::weekday(std::chrono::sys_days(date)).c_encoding();
  return expand(style, [&](std::string_view field) -> std::string {
    if (field == "d") return digits(day);
    if (field == "dd") return two_digits(day);
    if (field == "o") return in.ordinal(day);
    if (field == "day") return in.day(day);
    if (field == "n") return digits(static_cast<int>(month) + 1);
    if (field == "nn") return two_digits(static_cast<int>(month) + 1);
    if (field == "mon") return std::string(in.short_months[month]);
    if (field == "month") return std::string(in.months[month]);
    if (field == "wd") return std::string(in.short_weekdays[weekday]);
    if (field == "weekday") return std::string(in.weekdays[weekday]);
    if (field == "yy") return two_digits(year % 100);
    if (field == "yyyy") return digits(year);
    if (field == "year") return in.year(year);
    throw std::logic_error("a date has no field " + std::string(field));
  });
}

/// One alternative of a time style around a written date.
inline std::string write_time(const language& in, std::string_view pattern, const std::string& date,
                              clock_time t) {
  return expand(pattern, [&](std::string_view field) -> std::string {
    if (field == "date") return date;
    if (field == "H") return digits(t.hour);
    if (field == "HH") return two_digits(t.hour);
    if (field == "h") return digits(on_dial(t.hour));
    if (field == "am") return std::string(t.hour < 12 ? in.am : in.pm);
    if (field == "mm") return two_digits(t.minute);
    if (field == "min") return digits(t.minute);
    if (field == "hour") return in.hour(t.hour);
    if (field == "minute") return in.minute(t.minute);
    if (field == "spoken") return in.spoken(t.hour, t.minute);
    if (field == "noon") return std::string(t.hour == 12 ? in.noon : in.midnight);
    throw std::logic_error("a time has no field " + std::string(field));
  });
}

}  // namespace translate
