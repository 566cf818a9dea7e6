// translate/dates.hpp - a task to learn: dates and times as people write them in six languages, into ISO
// 8601.
//
//   "March 3rd, 2021 at five past two in the afternoon", "am 3. März 2021 um 14:05 Uhr" -> "2021-03-03T14:05"
//
// Pair i of a seed is a function of both, so that training continues where it stopped. What is held out to
// measure: one date in twenty, and one combination of date style and time style in six; each style alone is
// learnt.
#pragma once

#include "languages/dutch.hpp"
#include "languages/english.hpp"
#include "languages/french.hpp"
#include "languages/german.hpp"
#include "languages/italian.hpp"
#include "languages/spanish.hpp"
#include "moment.hpp"

#include "../transformer/random.hpp"

#include <algorithm>

namespace translate {

inline constexpr std::array languages{&in_english::english, &in_french::french,   &in_german::german,
                                      &in_spanish::spanish, &in_italian::italian, &in_dutch::dutch};

inline constexpr int first_year = 1950, last_year = 2049;  // so that two digits are enough

struct pair {
  std::string source, target;
  std::string_view language;  // "en", "fr", "de", "es", "it", "nl"
  std::string style;          // the patterns of date and time
};

/// One date in twenty.
inline bool is_held_out(std::chrono::year_month_day date) {
  const auto days = std::chrono::sys_days(date).time_since_epoch().count();
  return transformer::random_key(20210303, days) % 20 == 0;
}

/// One combination in six of the styles of a date and of a time, by their numbers in the language's lists.
constexpr bool is_held_out(std::size_t date_style, std::size_t time_style) {
  return (date_style + time_style) % 6 == 5;
}

namespace detail {

using stream = transformer::random_stream;

inline std::size_t pick(stream& random, std::size_t n) { return random.below(static_cast<std::uint32_t>(n)); }

inline std::chrono::year_month_day draw_date(stream& random, bool held_out) {
  using namespace std::chrono;
  const sys_days from = year(first_year) / 1 / 1, to = year(last_year + 1) / 1 / 1;
  for (;;) {
    const year_month_day date = from + days(pick(random, static_cast<std::size_t>((to - from).count())));
    if (is_held_out(date) == held_out) return date;
  }
}

inline clock_time draw_time(stream& random, std::string_view style) {
  for (;;) {
    const int minutes = static_cast<int>(pick(random, 24 * 60));
    if (const clock_time t{minutes / 60, minutes % 60}; can_say(style, t)) return t;
  }
}

inline std::string_view draw_alternative(stream& random, std::string_view style) {
  std::size_t chosen = pick(random, static_cast<std::size_t>(std::ranges::count(style, '|')) + 1);
  for (; chosen > 0; --chosen) style.remove_prefix(style.find('|') + 1);
  return style.substr(0, style.find('|'));
}

inline pair draw(std::uint64_t key, bool held_out_date, bool held_out_style) {
  stream random(key);
  const language& in = *languages[pick(random, languages.size())];
  std::size_t date_style, time_style;
  do {
    date_style = pick(random, in.date_styles.size()), time_style = pick(random, in.time_styles.size());
  } while (is_held_out(date_style, time_style) != held_out_style ||
           !can_join(in.date_styles[date_style], in.time_styles[time_style]));
  const std::string_view around = in.time_styles[time_style];

  moment m{draw_date(random, held_out_date), std::nullopt};
  if (needs_time(around)) m.time = draw_time(random, around);
  pair p{.source = write_date(in, in.date_styles[date_style], m.date),
         .target = iso(m),
         .language = in.code,
         .style = std::string(in.date_styles[date_style]).append(" / ").append(around)};
  if (m.time) p.source = write_time(in, draw_alternative(random, around), p.source, *m.time);
  if (pick(random, 8) == 0)  // some write no capitals
    for (char& c : p.source)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return p;
}

}  // namespace detail

inline pair training_pair(std::uint64_t seed, std::uint64_t i) {
  return detail::draw(transformer::random_key(seed, 0, i), false, false);
}

/// In turn: a date that training lacks, a combination of styles that it lacks, and both.
inline pair held_out_pair(std::uint64_t seed, std::uint64_t i) {
  return detail::draw(transformer::random_key(seed, 1, i), i % 3 != 1, i % 3 != 0);
}

}  // namespace translate
