"""What commands, characters and names mean to the tokens: tables only."""


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTIONS = words(
    r"\sin \cos \tan \cot \sec \csc \arcsin \arccos \arctan \sinh \cosh \tanh \cis \log \ln \lg \exp \sqrt"
)
GREEK = words(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi rho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega hbar ell"
)
CONNECTIVES = frozenset({"or", "and"})
# Not mg: mass times gravity.
PLAIN_WORDS = words("per mod sq kg km cm ft mph mol Hz kHz MHz kJ MJ kW kPa kN eV keV MeV kWh")

_UNICODE = {
    "√": r"\sqrt ", "∛": r"\sqrt[3] ", "∞": r"\infty ", "π": r"\pi ", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ",
    "∙": r"\cdot ", "÷": "/", "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "∕": "/", "⁄": "/", "±": r"\pm ",
    "∓": r"\mp ", "≤": r"\le ", "⩽": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "∈": r"\in ",
    "∪": r"\cup ", "∩": r"\cap ", "∖": r"\setminus ", "∅": r"\emptyset ", "ø": r"\emptyset ", "…": r"\ldots ",
    "⋯": r"\ldots ", "°": r"^\circ ", "º": r"^\circ ", "′": "'", "’": "'", "″": "''", "ℝ": r"\mathbb{R}",
    "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}", "∠": r"\angle ", "△": r"\triangle ",
    "→": r"\to ", "⟨": r"\langle ", "⟩": r"\rangle ", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ",
    "⌉": r"\rceil ", "∣": "|", "、": ",", "。": ".", "％": r"\%", "µ": r"\mu ", "Å": r"\AA ", "Ω": r"\Omega ",
    "ϕ": r"\phi ", "\u00a0": " ", "\u2009": r"\,", "\u202f": r"\,", "\u200b": "", "\u2061": "", "\u2062": "",
    "\ufeff": "", "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}", "⅕": r"\frac{1}{5}", "⅖": r"\frac{2}{5}", "⅗": r"\frac{3}{5}", "⅘": r"\frac{4}{5}",
    "⅙": r"\frac{1}{6}", "⅚": r"\frac{5}{6}", "⅛": r"\frac{1}{8}", "⅜": r"\frac{3}{8}",
    "⅝": r"\frac{5}{8}", "⅞": r"\frac{7}{8}",
}  # fmt: skip
_GREEK_LETTERS = dict(zip("αβγδεζηθικλμνξρστυφχψωΓΔΘΛΞΠΣΦΨ", str.split(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi"), strict=True))  # fmt: skip
TRANSLATION = {
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # full-width forms
    **{ord(letter): f"\\{name} " for letter, name in _GREEK_LETTERS.items()},
    **{ord(character): text for character, text in _UNICODE.items()},
}
RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ", "0123456789+-=()ni", strict=True))
LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎", "0123456789+-=()", strict=True))

DROPPED = words(
    r"\left \right \middle \big \Big \bigg \Bigg \bigl \bigr \Bigl \Bigr \biggl \biggr \displaystyle \textstyle"
    r" \scriptstyle \limits \nolimits \! \/ \- \mathstrut \relax"
    r" \tiny \scriptsize \footnotesize \small \normalsize \large \Large \LARGE \huge \Huge \checkmark \blacksquare \qed"
    r" \mathop \mathrel \mathbin \protect \smallskip \strut \noindent \centering \null"
)
BLANKS = words(r"\, \; \: \> \quad \qquad \enspace \thinspace \space \hfill") | {"\\ ", "\\\n", "\\\t"}
DROPPED_ARGUMENT = words(r"\hspace \vspace \phantom \hphantom \vphantom \label \tag \color \hskip")
UPRIGHT = words(
    r"\text \textnormal \textrm \mathrm \mbox \hbox \textup \textbf \textit \textsf \texttt \emph \operatorname"
    r" \operatorname* \si \unit \mathup \textsc \ce"
)
STYLES = words(r"\rm \bf \it \tt \sf \sc \cal")  # for the rest of a group
FONT = words(
    r"\mathbf \boldsymbol \bm \mathit \mathsf \mathtt \pmb \boxed \fbox \framebox \underline \mathnormal \num \ang"
    r" \underbrace \overbrace \smash \ensuremath"
)
BOLD = words(r"\mathbf \boldsymbol \bm \pmb")
PLAIN_SIGNS = {"<=>": r"\iff ", "<=": r"\le ", ">=": r"\ge ", "-->": r"\to ", "->": r"\to "}
ACCENTS = words(
    r"\overline \bar \dot \ddot \hat \widehat \tilde \widetilde \vec \overrightarrow \overleftrightarrow"
    r" \mathbb \mathcal \mathfrak \mathscr \overset"
)
INFIX = {r"\over": r"\frac", r"\choose": r"\binom"}
ALIASES = {
    r"\leq": r"\le", r"\leqslant": r"\le", r"\leqq": r"\le", r"\geq": r"\ge", r"\geqslant": r"\ge", r"\geqq": r"\ge",
    r"\neq": r"\ne", r"\lt": "<", r"\gt": ">", r"\times": "*", r"\cdot": "*", r"\ast": "*", r"\div": "/",
    r"\colon": ":", r"\vert": "|", r"\mid": "|", r"\lvert": "|", r"\rvert": "|", r"\|": "|",
    r"\lbrace": r"\{", r"\rbrace": r"\}", r"\lbrack": "[", r"\rbrack": "]", r"\lparen": "(", r"\rparen": ")",
    r"\langle": "(", r"\rangle": ")",
    r"\varnothing": r"\emptyset", r"\dots": r"\ldots", r"\cdots": r"\ldots", r"\dotsc": r"\ldots", r"\dotsb": r"\ldots",
    r"\vdots": r"\ldots", r"\degree": r"\circ", r"\degrees": r"\circ", r"\textdegree": r"\circ", r"\rightarrow": r"\to",
    r"\longrightarrow": r"\to", r"\simeq": r"\approx", r"\thickapprox": r"\approx", r"\imath": "i", r"\jmath": "j",
    r"\lor": "or", r"\vee": "or", r"\land": "and", r"\wedge": "and", r"\backslash": r"\setminus", r"\textdollar": r"\$",
    r"\pounds": "£", r"\euro": "€", r"\texteuro": "€", r"\prime": "'", r"\R": r"\mathbb{R}", r"\reals": r"\mathbb{R}",
    r"\dbinom": r"\binom", r"\tbinom": r"\binom", r"\dfrac": r"\frac", r"\tfrac": r"\frac",
    r"\cfrac": r"\frac", r"\nicefrac": r"\frac", r"\sfrac": r"\frac", r"\varphi": r"\phi", r"\varepsilon": r"\epsilon",
    r"\vartheta": r"\theta", r"\Leftrightarrow": r"\iff", r"\textpi": r"\pi", r"\uppi": r"\pi",
}  # fmt: skip
