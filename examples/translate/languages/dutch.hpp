// translate/languages/dutch.hpp - dates and times in Dutch.
#pragma once

#include "../language.hpp"

namespace translate::in_dutch {

inline std::string number(int n) {
  constexpr std::array<std::string_view, 20> small{
      "nul",      "één",      "twee",    "drie",      "vier",     "vijf",     "zes",
      "zeven",    "acht",     "negen",   "tien",      "elf",      "twaalf",   "dertien",
      "veertien", "vijftien", "zestien", "zeventien", "achttien", "negentien"};
  constexpr std::array<std::string_view, 10> tens{"",        "",       "twintig",  "dertig",  "veertig",
                                                  "vijftig", "zestig", "zeventig", "tachtig", "negentig"};
  if (n < 20) return std::string(small[n]);
  const std::string ten(tens[n / 10]);
  const int one = n % 10;
  if (one == 0) return ten;
  return (one == 1 ? "een" : number(one)) + (one == 2 || one == 3 ? "ën" : "en") + ten;
}

inline std::string hour(int n) { return number(n) + " uur"; }

inline std::string year(int n) {
  if (n < 2000) return "negentienhonderd" + number(n - 1900);
  return n == 2000 ? "tweeduizend" : "tweeduizend " + number(n - 2000);
}

inline std::string spoken(int hours, int minute) {
  static constexpr day_part parts[] = {
      {0, " 's nachts"}, {6 * 60, " 's ochtends"}, {12 * 60, " 's middags"}, {18 * 60, " 's avonds"}};
  const std::string now = number(on_dial(hours)), next = number(on_dial(hours + 1));
  const auto amount = [](int m) { return m == 15 ? "kwart" : number(m); };
  std::string text = minute == 0    ? now + " uur"
                     : minute < 20  ? amount(minute) + " over " + now
                     : minute < 30  ? amount(30 - minute) + " voor half " + next
                     : minute == 30 ? "half " + next
                     : minute <= 40 ? amount(minute - 30) + " over half " + next
                                    : amount(60 - minute) + " voor " + next;
  return text.append(part_of_day(parts, hours, minute));
}

inline constexpr std::string_view date_styles[] = {
    "op {d} {month} {yyyy}",  "{weekday} {d} {month} {yyyy}", "op {weekday} {d} {month} {yyyy}",
    "op {d}-{n}-{yyyy}",      "{weekday} {dd}-{nn}-{yy}",     "op {day} {month} {year}",
    "{wd} {d} {mon}. {yyyy}", "de {o} {month} {yyyy}",        "{weekday} de {o} {month} {yyyy}"};
inline constexpr std::string_view time_styles[] = {"{date}",
                                                   "{date} om {H}:{mm} uur|{date}, {H}:{mm} uur",
                                                   "{date} om {HH}.{mm} uur|{date}, {HH}.{mm} u",
                                                   "{date} om {H} uur|{date}, {H} uur",
                                                   "{date} om {hour} {minute}|{date}, {hour} {minute}",
                                                   "{date} om {spoken}|{date}, {spoken}",
                                                   "{date} om {noon}|{date}, {noon}"};

inline constexpr language dutch{
    .code = "nl",
    .date_styles = date_styles,
    .time_styles = time_styles,
    .months = {"januari", "februari", "maart", "april", "mei", "juni", "juli", "augustus", "september",
               "oktober", "november", "december"},
    .short_months = {"jan", "feb", "mrt", "apr", "mei", "jun", "jul", "aug", "sep", "okt", "nov", "dec"},
    .weekdays = {"zondag", "maandag", "dinsdag", "woensdag", "donderdag", "vrijdag", "zaterdag"},
    .short_weekdays = {"zo", "ma", "di", "wo", "do", "vr", "za"},
    .noon = "twaalf uur 's middags",
    .midnight = "middernacht",
    .am = "",
    .pm = "",
    .ordinal = [](int n) { return digits(n) + "e"; },
    .day = number,
    .year = year,
    .hour = hour,
    .minute = number,
    .spoken = spoken};

}  // namespace translate::in_dutch
