// translate/languages/english.hpp - dates and times in English. Month/day/year is written with am or pm only.
#pragma once

#include "../language.hpp"

namespace translate::in_english {

inline std::string number(int n) {
  constexpr std::array<std::string_view, 20> small{"zero",    "one",     "two",       "three",    "four",
                                                   "five",    "six",     "seven",     "eight",    "nine",
                                                   "ten",     "eleven",  "twelve",    "thirteen", "fourteen",
                                                   "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"};
  constexpr std::array<std::string_view, 10> tens{"",      "",      "twenty",  "thirty", "forty",
                                                  "fifty", "sixty", "seventy", "eighty", "ninety"};
  if (n < 20) return std::string(small[n]);
  return std::string(tens[n / 10]) + (n % 10 > 0 ? "-" + number(n % 10) : "");
}

inline std::string ordinal(int n) {
  const bool teen = n / 10 == 1;
  return digits(n) + (n % 10 == 1 && !teen   ? "st"
                      : n % 10 == 2 && !teen ? "nd"
                      : n % 10 == 3 && !teen ? "rd"
                                             : "th");
}

inline std::string day(int n) {
  constexpr std::array<std::string_view, 21> words{
      "",           "first",     "second",    "third",       "fourth",     "fifth",      "sixth",
      "seventh",    "eighth",    "ninth",     "tenth",       "eleventh",   "twelfth",    "thirteenth",
      "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth", "twentieth"};
  if (n <= 20) return std::string(words[n]);
  if (n == 30) return "thirtieth";
  return (n > 30 ? "thirty-" : "twenty-") + std::string(words[n % 10]);
}

inline std::string year(int n) {
  if (n < 2000) return "nineteen " + number(n - 1900);
  if (n >= 2010) return "twenty " + number(n - 2000);
  return n == 2000 ? "two thousand" : "two thousand and " + number(n - 2000);
}

inline std::string spoken(int hour, int minute) {
  static constexpr day_part parts[] = {{0, "in the morning"},
                                       {12 * 60, "in the afternoon"},
                                       {18 * 60, "in the evening"},
                                       {21 * 60, "at night"}};
  const auto amount = [](int m) { return m == 15 ? "quarter" : number(m); };
  const std::string now = number(on_dial(hour)), next = number(on_dial(hour + 1));
  std::string text = minute == 0    ? now + " o'clock"
                     : minute == 30 ? "half past " + now
                     : minute < 30  ? amount(minute) + " past " + now
                                    : amount(60 - minute) + " to " + next;
  return text.append(" ").append(part_of_day(parts, hour, minute));
}

inline constexpr std::string_view date_styles[] = {"{month} {d}, {yyyy}",
                                                   "{month} {o}, {yyyy}",
                                                   "{weekday}, {month} {d}, {yyyy}",
                                                   "the {o} of {month} {yyyy}",
                                                   "{d} {month} {yyyy}",
                                                   "{wd}, {d} {mon} {yyyy}",
                                                   "{mon} {d} '{yy}",
                                                   "the {day} of {month}, {year}",
                                                   "{yyyy}/{nn}/{dd}",
                                                   "{weekday} the {o} of {month} {yyyy}",
                                                   "{month} the {day}, {yyyy}",
                                                   "{n}/{d}/{yyyy}"};
inline constexpr std::string_view time_styles[] = {
    "{date}",
    "{date} at {HH}:{mm}|{date}, {HH}:{mm}|{HH}:{mm} on {date}",
    "{date} at {h}:{mm} {am}|{date}, {h}:{mm} {am}|{date} {h}:{mm}{am}|{h}:{mm} {am} on {date}",
    "{date} at {h} {am}|{date}, {h}{am}|{h} {am} on {date}",
    "{date}, {HH}{mm} hours|{HH}{mm} hours on {date}",
    "{date} at {spoken}|{date}, {spoken}|{spoken} on {date}",
    "{date} at {noon}|{date}, {noon}|{noon} on {date}"};

inline constexpr language english{
    .code = "en",
    .date_styles = date_styles,
    .time_styles = time_styles,
    .months = {"January", "February", "March", "April", "May", "June", "July", "August", "September",
               "October", "November", "December"},
    .short_months = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"},
    .weekdays = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"},
    .short_weekdays = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"},
    .noon = "noon",
    .midnight = "midnight",
    .am = "am",
    .pm = "pm",
    .ordinal = ordinal,
    .day = day,
    .year = year,
    .hour = number,
    .minute = number,
    .spoken = spoken};

}  // namespace translate::in_english
