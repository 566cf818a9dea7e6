// translate/languages/french.hpp - dates and times in French.
#pragma once

#include "../language.hpp"

namespace translate::in_french {

inline std::string number(int n) {
  constexpr std::array<std::string_view, 17> small{"zéro",  "un",     "deux",     "trois",  "quatre", "cinq",
                                                   "six",   "sept",   "huit",     "neuf",   "dix",    "onze",
                                                   "douze", "treize", "quatorze", "quinze", "seize"};
  constexpr std::array<std::string_view, 7> tens{"",         "dix",       "vingt",   "trente",
                                                 "quarante", "cinquante", "soixante"};
  if (n <= 16) return std::string(small[n]);
  if (n == 80) return "quatre-vingts";
  if (n > 80) return "quatre-vingt-" + number(n - 80);
  if (n > 70 && n < 80) return (n == 71 ? "soixante et " : "soixante-") + number(n - 60);
  if (n == 70) return "soixante-dix";
  const std::string ten(tens[n / 10]);
  return n % 10 == 0 ? ten : ten + (n % 10 == 1 ? " et " : "-") + number(n % 10);
}

/// Hours and minutes are feminine.
inline std::string feminine(int n) { return number(n) + (n % 10 == 1 && n != 11 ? "e" : ""); }
inline std::string hour(int n) { return feminine(n) + (n == 1 ? " heure" : " heures"); }

inline std::string ordinal(int n) { return n == 1 ? "1er" : digits(n); }
inline std::string day(int n) { return n == 1 ? "premier" : number(n); }

inline std::string year(int n) {
  if (n < 2000) return "mille neuf cent " + number(n - 1900);
  return n == 2000 ? "deux mille" : "deux mille " + number(n - 2000);
}

inline std::string spoken(int hours, int minute) {
  static constexpr day_part parts[] = {
      {0, " du matin"}, {12 * 60, " de l'après-midi"}, {18 * 60, " du soir"}};
  const int named_hour = minute > 30 ? hours + 1 : hours;
  const bool noon = named_hour == 12;
  std::string text = noon ? "midi" : hour(on_dial(named_hour));
  text += minute == 0    ? ""
          : minute == 15 ? " et quart"
          : minute == 30 ? (noon ? " et demi" : " et demie")
          : minute == 45 ? " moins le quart"
          : minute < 30  ? " " + number(minute)
                         : " moins " + number(60 - minute);
  return noon ? text : text.append(part_of_day(parts, hours, minute));
}

inline constexpr std::string_view date_styles[] = {"le {o} {month} {yyyy}",
                                                   "{weekday} {o} {month} {yyyy}",
                                                   "le {weekday} {o} {month} {yyyy}",
                                                   "le {dd}/{nn}/{yyyy}",
                                                   "le {d}/{n}/{yy}",
                                                   "le {day} {month} {year}",
                                                   "{wd} {o} {mon} {yyyy}",
                                                   "en {yyyy}, le {o} {month}",
                                                   "{o} {month} {yyyy}"};
inline constexpr std::string_view time_styles[] = {"{date}",
                                                   "{date} à {H}h{mm}|{date}, {H}h{mm}|{H}h{mm}, {date}",
                                                   "{date} à {HH}:{mm}|{date}, {HH}:{mm}",
                                                   "{date} à {H} h|{date}, {H} heures",
                                                   "{date} à {hour} {minute}|{date}, {hour} {minute}",
                                                   "{date} à {spoken}|{date}, {spoken}",
                                                   "{date} à {noon}|{date}, {noon}"};

inline constexpr language french{
    .code = "fr",
    .date_styles = date_styles,
    .time_styles = time_styles,
    .months = {"janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre",
               "octobre", "novembre", "décembre"},
    .short_months = {"janv.", "févr.", "mars", "avr.", "mai", "juin", "juil.", "août", "sept.", "oct.",
                     "nov.", "déc."},
    .weekdays = {"dimanche", "lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi"},
    .short_weekdays = {"dim.", "lun.", "mar.", "mer.", "jeu.", "ven.", "sam."},
    .noon = "midi",
    .midnight = "minuit",
    .am = "",
    .pm = "",
    .ordinal = ordinal,
    .day = day,
    .year = year,
    .hour = hour,
    .minute = feminine,
    .spoken = spoken};

}  // namespace translate::in_french
