r"""Which answers are the reference's: equal spellings, wrong ones of whole kinds, and hostile texts, kind by kind.

Every pair is a fact of mathematics or of notation, decided here by hand; none was made by the code under test.
"""

import doctest
import importlib
import itertools
import json
import os
import pkgutil
import random
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest

from prorl_lab.scoring import answers, extract, math_answers
from prorl_lab.scoring.answers import evaluate, grammar, reader
from prorl_lab.scoring.answers.tokens import NotRead, canonical, tokenize
from prorl_lab.scoring.answers.values import Text
from prorl_lab.scoring.math_answers import score_math, score_stem

ROOT = Path(__file__).resolve().parents[1]


def math(answer: str, gold: object) -> float:
    return score_math(f"so \\boxed{{{answer}}}", {"answer": gold})[0]


def stem(answer: str, gold: object) -> float:
    return score_stem(f"so \\boxed{{{answer}}}", {"answer": gold})[0]


# A line: the reference | an answer | another ...   `=` lines are right, `!` lines are wrong.
KINDS = {
    "the case of symbols": r"""
        = R-r | -r+R
        ! R-r | r-R
        ! \frac{v}{V} | 1 | \frac{V}{v}
        ! B | b
        ! X_1+x_1 | 2x_1 | 2X_1
    """,
    "letters in order": r"""
        = PQRS | \text{PQRS} | P Q R S
        ! PQRS | QPRS | SRQP
        ! \text{H}_2\text{O} | \text{H}_2\text{O}_2 | H_2O_2
        ! \text{NO}_2 | \text{SO}_2 | 2
        = \text{NO}_2 | \mathrm{NO_2} | NO_2
        = 3ab | 3ba
    """,
    "formulas of substances": r"""
        = \text{C}_2\text{H}_6 | C2H6 | C_2H_6 | \ce{C2H6} | \mathrm{C_2H_6} | C₂H₆
        ! \text{C}_2\text{H}_6 | C_6H_2 | C2H5 | CH | C_{2H_6}
        = \ce{KNO3} | KNO_3
        ! \ce{KNO3} | KNO_2
        ! CO | Co
    """,
    "reactions and ions": r"""
        = \ce{2Na + Cl2 -> 2NaCl} | 2\text{Na} + \text{Cl}_2 \rightarrow 2\text{NaCl} | \ce{Cl2 + 2Na -> 2NaCl}
        ! \ce{2Na + Cl2 -> 2NaCl} | \ce{Na + Cl2 -> NaCl} | \ce{2NaCl -> 2Na + Cl2} | \ce{2K + Cl2 -> 2KCl}
        = \text{K}^+ + \text{Br}^- \to \text{KBr} | \text{Br}^{-} + \text{K}^{+} \to \text{KBr}
        ! \text{K}^+ + \text{Br}^- \to \text{KBr} | \text{K} + \text{Br} \to \text{KBr}
        = \text{CO}_3^{2-} | \ce{CO3^2-} | \text{CO}_3^{-2} | CO_3^{2-}
        ! \text{CO}_3^{2-} | \ce{CO3^3-} | \text{CO}_3
    """,
    "congruences": r"""
        = x \equiv 5 \pmod 9 | x\equiv 14 \pmod{9} | x \equiv -4 \bmod 9 | x\equiv 5\ (\text{mod }9) | 5 \pmod 9
        ! x \equiv 5 \pmod 9 | x\equiv 5 \pmod 8 | x \equiv 6 \pmod 9 | 5 | y\equiv 5 \pmod 9
        = n \equiv 2, 3 \pmod 5 | n \equiv 3, 2 \pmod 5 | n\equiv 2 \pmod 5 \text{ or } n\equiv 3 \pmod 5
        ! n \equiv 2, 3 \pmod 5 | n\equiv 2 \pmod 5 | 2, 3 | n\equiv 2 \pmod 3
    """,
    "conditions behind": r"""
        = \frac{x+2}{x-3} | \frac{x+2}{x-3}, x\ne3 | \frac{x+2}{x-3}, \quad x\neq3, x\neq-3
        = \frac{x+2}{x-3}, x\ne3 | \frac{x+2}{x-3}
        ! \frac{x+2}{x-3} | \frac{x-3}{x+2}, x\ne3 | \frac{x+2}{x-3}, x>3 | \frac{x+2}{x-3}, y\ne3
        ! 5 | 5, x\ne6 | 5, 6\ne7
        = x=1+2\pi k, k\in\mathbb{Z} | x=1+2n\pi, n\in\mathbb{Z} | \pi(2k)+1, k\in\mathbb{Z}
        ! x=1+2\pi k, k\in\mathbb{Z} | 1+\pi k, k\in\mathbb{Z} | 1+2\pi k, k\in\mathbb{N} | 1 | 1, k\in\mathbb{Z}
    """,
    "nothing": r"""
        = \text{no solution} | \text{No solutions} | \emptyset | \text{There are no real solutions}
        ! \text{no solution} | 0 | \{0\} | \text{one solution} | \text{infinitely many solutions} | \{\emptyset\}
        ! \{1\} | \text{no solution} | \emptyset
        = \text{does not exist} | \text{DNE}
    """,
    "several lines": r"""
        = \begin{cases}t^2&t>3\\1&\text{else}\end{cases} | \begin{cases}1,&\text{else}\\t^2,&\text{if }3<t.\end{cases}
        ! \begin{cases}t^2&t>3\\1&\text{else}\end{cases} | \begin{cases}t^2&t\ge3\\1&\text{else}\end{cases}
        ! \begin{cases}t^2&t>3\\1&\text{else}\end{cases} | \begin{cases}1&t>3\\t^2&\text{else}\end{cases}
        ! \begin{cases}t^2&t>3\\1&\text{else}\end{cases} | t^2 | t^2, 1
        = 9 | \begin{aligned} n &= 9 \end{aligned} | \begin{aligned} n &= 4+5 \\ &= 9 \end{aligned}
        ! 9 | \begin{aligned} n &= 4+6 \\ &= 9 \end{aligned} | \begin{aligned} n &= 9 \\ m &= 8 \end{aligned}
        = (3,4) | \begin{cases} x=3 \\ y=4\end{cases} | \left\{\begin{array}{l} x=3 \\ y=4\end{array}\right.
        ! (3,4) | \begin{cases} x=4 \\ y=3\end{cases}
    """,
    "quantities in parts": r"""
        = \text{3 hours and 45 minutes} | 3\text{ h }45\text{ min} | 3.75\text{ hours} | 225\text{ minutes}
        ! \text{3 hours and 45 minutes} | 3.45\text{ hours} | 3 | 45 | 3 hours, 45 minutes | 48\text{ minutes}
        = 5\text{ ft }9\text{ in} | 5'9'' | 69\text{ inches} | 5 \text{ feet } 9 \text{ inches}
        ! 5\text{ ft }9\text{ in} | 5'8'' | 59\text{ inches} | 5.9\text{ ft}
        = 40^\circ 30' | 40.5^\circ | 40°30′
        ! 40^\circ 30' | 40^\circ 30'' | 40.3^\circ | 40^\circ
        = 4\text{ cm and }6\text{ cm} | 6\text{ cm}, 4\text{ cm}
        ! 4\text{ cm and }6\text{ cm} | 10\text{ cm}
    """,
    "days": r"""
        = \text{April 9} | 9 April | \text{the 9th of April} | April 9th | Apr. 9
        ! \text{April 9} | April 19 | May 9 | 9 | April
        = June 7, 1820 | 7 June 1820 | June 7 1820
        ! June 7, 1820 | June 7, 1821 | June 7
    """,
    "numbers": r"""
        = 42 | 42.0 | +42 | 42. | (42) | {42} | \mathbf{42} | \text{42} | \boxed{42} | 6\times7 | \frac{84}{2} | 4.2e1
        = m=42 | $m$ = $42$ | $m = 42$,
        = 42\% | $42\%$\, | $42$ percent
        = 42\text{ cm} | $42$ cm
        = 42, 43 | $42$ and $43$ | $42$, $43$
        = \$42 | $42
        ! \$42 | $4$2 | $42 or $43
        = 42 | $42$ | \(42\) | \textcolor{blue}{42} | \underline{42} | 42, | The answer is 42 | n = 42 | \approx 42
        = 42 | \text{about }42 | \text{only }42 | 42\text{ only}
        ! 42 | \text{about }43 | \text{about }42\text{ or }43
        ! 42 | -42 | 4.2 | 24 | 421 | 42! | 42i | 42x | 4 2 | 042e1 | 41,42 | 42,43 | \{42, 43\} | (42,43)
        = 0.75 | \frac34 | 3/4 | .75 | ¾ | 75\% | \dfrac{3}{4} | \tfrac34 | \frac{6}{8} | \nicefrac{3}{4}
        ! 0.75 | \frac43 | 0.075 | 7.5 | -\frac34 | 0.755
        = -\frac{5}{8} | -{5 \over 8} | \frac{-5}{8} | -5/8 | - \frac 58 | -0.625
        = 10^{-6} | 0.000001 | 1e-6 | \frac{1}{10^6}
        ! 10^{-6} | 10^{-7} | 0 | -10^{-6} | 2\cdot10^{-6}
        ! \frac{1}{900!} | \frac{1}{901!} | 0
        ! 2^{-77} | 2^{-78} | 0
        ! 10^{40} | 10^{40}+1
        ! 9.11\times10^{-31} | 1.67\times10^{-27} | 9.11\times10^{-28} | -9.11\times10^{-31} | 0
    """,
    "roots, powers and constants": r"""
        = 2\sqrt{3} | \sqrt{12} | 2√3 | 2*sqrt(3) | \frac{6}{\sqrt3} | 12^{1/2} | \sqrt3\cdot 2
        ! 2\sqrt{3} | 3\sqrt2 | \sqrt{6} | 2\sqrt[3]{3} | 3.464 | 3.4641016
        = \frac{\pi}{2} | \frac\pi2 | \frac\pi 2 | \pi/2 | 0.5\pi | π/2
        ! \frac{\pi}{2} | 2 | 1.5708 | \frac{2}{\pi} | \frac{11}{7}
        = \sqrt[3]{-8} | -2
        = \sqrt2\sqrt3-\sqrt6 | 0
        ! \sqrt2\sqrt3-\sqrt6 | 10^{-30}
        = e^3-1 | -1+exp(3) | \mathrm{e}^3-1
        = \frac{1+\sqrt5}{2} | \frac{2}{\sqrt5-1}
        ! 2 | \sqrt{2}^{2}+10^{-60}
    """,
    "mixed numbers and blanks": r"""
        = 3\frac{1}{4} | \frac{13}{4} | 3 1/4 | 3.25 | 13/4 | 3 \tfrac14 | 3¼
        ! 3\frac{1}{4} | \frac34 | 0.75 | 3 | \frac{31}{4} | 31/4
        = -6\frac{1}{2}\text{ feet} | -6.5 | -\frac{13}{2}
        ! -6\frac{1}{2} | -5.5 | -3
        = \frac32 | 3\left(\frac12\right) | 3\cdot\frac12
        ! 57 | 5 7 | 5 \quad 7
        ! \frac{31}{4} | 3 1/4
    """,
    "thousands marks": r"""
        = 1234567 | 1,234,567 | 1{,}234{,}567 | 1\,234\,567 | 1,\!234,\!567 | \$1,234,567
        ! 48,215 | 48, 215 | 48 | 215
        ! 17, 305 | 17305 | 17.305
        = 17, 305 | 305, 17 | 17,305
        ! 0 | 2\,000 | 2{,}000
        = (3,141) | (3, 141)
        ! (3,141) | 3141
        ! \$7, \$250 | \$7250
        = 3456789 | 3.456.789 | 3'456'789 | 34,56,789
        ! 3456789 | 3.456 | 34,56,798 | 3.456.788
        ! 3.456 | 3.456.000
    """,
    "repeating decimals": r"""
        = \frac{2}{3} | 0.\overline{6} | 0.\bar{6} | 0.6\overline{6}
        = \frac{5}{11} | 0.\overline{45} | .\overline{45}
        ! \frac{2}{3} | 0.6 | 0.67 | 0.666666 | 0.\overline{66}1
        = 1 | 0.\overline{9}
        = \frac49 | 0.(4) | .\overline{4}
        ! \frac49 | 0.(5) | 0(4)
    """,
    "Unicode": r"""
        = x^2+1 | x²+1
        = 45^\circ | 45° | 45\degree | 45
        = [-\infty, 2) | [−∞, 2)
        = (1,-2) | （1，−2）
        = \frac{x_1}{2} | x₁/2
        = \theta\cdot\pi | θ·π
        = \emptyset | ∅ | \varnothing | \{\}
        = x\le 4 | x≤4
    """,
    "numbers in words and in parts": r"""
        = 3500000 | 3.5 \text{ million} | 3.5 million | 35\text{ hundred thousand}
        = 4.1\text{ billion} | 4100000000 | 4.1\times10^9 | 4100 million
        = \$2.5\text{ million} | 2500000 | \$2,500,000 | 2.5\text{ million dollars}
        ! 4.1\text{ billion} | 4.1 | 4.1\text{ million}
        ! 9 | 9\text{ tenths} | 9\text{ millions} | 9\text{ halves} | 9\text{ dozens} | 9\text{ sixteenths}
        ! 9 | 9\text{ doubled} | 9 \text{ alternatively twelve} | 9\text{ perhaps}
        = 47 | \text{forty-seven} | \text{Forty seven}
        ! 47 | \text{forty}
        = 105 | 7!! | 15\cdot 7
        ! 105 | (7!)! | 7!
        = (2n)!! | 2^n n!
        ! 720 | 3!!
        ! 34 | 3{4} | {3}{4}
        ! 12 | 3{4} | \cancel{12}
    """,
    "text that counts": r"""
        = 4-7i | 4-7\mathrm{i} | -7i+4
        ! 4-7\mathrm{i} | 4 | -3 | 4-7
        ! 3\mathrm{e} | 3
        ! -5 \text{ or } -8 | -58 | -13 | -5 | -8 | 5 \text{ or } 8
        = -5 \text{ or } -8 | -8,-5 | \{-5,-8\} | -5 and -8 | x=-5 \text{ or } x=-8
        = 4, 9\text{, and }16 | 4,9,16 | \{16,9,4\}
        ! 4, 9\text{, and }16 | 4,916 | 4, 9 | 4,9,16,25
        ! 7 | \text{not }7 | 7\text{ million} | 7 \text{ or more}
        ! 7 | \text{at least }7 | 7 \text{ or } 8 | 7 thousand | \text{minus }7
        ! \text{P wins by }4 | \text{Q wins by }4 | 4
        = \text{P wins by }4 | P wins by 4
        ! \text{II, IV} | \text{II, III} | \text{II}
        = \text{Tuesday} | tuesday | Tuesday. | \textbf{Tuesday}
        ! \text{Tuesday} | \text{Thursday} | T | \text{Tues or Thurs}
        ! \text{odd} | \text{even}
        = \text{odd} | odd | Odd
        = \mbox{five} | 5
        ! \text{Side 0 loses} | 0 | 10
        ! {\text{none of them}} | {} | 0 | {\text{all of them}}
        ! \mathrm{sin}\,x | \mathrm{cos}\,x | x
    """,
    "choices": r"""
        = C | (C) | \text{C} | \textbf{(C)} | [C] | C. | (C) 12 | \textbf{(C)}\ 12 | C: because | Answer: C
        ! C | c | D | CD | C, D | (C) or (D) | C. or D. | (C)(D) | 3
        = \text{(E)} | E | \boxed{\text{(E)}} | \left(\text{E}\right) | \displaystyle \text{E}
        = D | \text{The answer is D} | \text{Answer: D} | \text{Option D}
        ! D | \text{The answer is C} | D. B | D: B
        = 18 | \textbf{(B)}\ 18 | \text{(B) }18
        ! 18 | \textbf{(B)}\ 19 | B
        = \text{A, C} | C, A | A and C | \text{A},\text{C}
        ! \text{A, C} | A | A, B | A, B, C | AC
    """,
    "units": r"""
        = 15\mbox{ cm}^2 | 15 | 15 \text{ cm}^{2}
        = 15\mbox{ cm}^2 | 15 \text{ square centimeters} | 15 \text{ square units} | 0.0015\text{ m}^2
        ! 15\mbox{ cm}^2 | 225 | 15\text{ cm} | 15\text{ m}^2 | 15\text{ cm}^3
        = 6 | 6 cm | 6\,\mathrm{kg} | 6 miles per hour | 6 {\rm cm}
        = 6 | \SI{6}{m/s} | 6 dollars | \$6 | 6\text{ pieces} | 6 m/s
        ! 6 | 6m | 6x | 6\frac{m}{M} | 36\text{ cm} | 6\text{ hundred}
        = 6 dollars | 6 | \$6 | 600\text{ cents}
        ! 6 dollars | 6\text{ cents} | 6\text{ euros}
        ! 3g | 3 | 3h
        ! x+5h | x+5
        = 80\text{ km/h} | 80\ \mathrm{km\,h^{-1}} | 80\,\frac{\text{km}}{\text{h}} | 80 kilometers per hour | 80
        ! 80\text{ km/h} | 80\text{ m/s} | 80\text{ km}
        = 19\text{ daps} | 19 | 19 \text{ dap}
        ! 19\text{ daps} | 19\text{ baps} | 91
        ! 343 | 7\text{ m}^3
        ! 30\text{ square units} | 30\text{ kg} | 30\text{ cm}
        ! 75^{\circ} | 75\text{ cm} | 75\text{ dollars}
        ! 4\text{ nm} | 4\text{ nM} | 4\text{ mm} | 4\text{ Nm}
        ! 0.3\text{ M} | 0.3\text{ m}
        = 0.3\text{ M} | 0.3\text{ mol/L} | 300\text{ mM} | 0.3\text{ mol dm}^{-3}
        = 12\text{ J/mol K} | 12\text{ J/(mol K)} | 12\text{ J mol}^{-1}\text{K}^{-1} | 12\text{ J/mol}\cdot\text{K}
        = 2\text{ kWh} | 7.2\text{ MJ} | 2\text{ kilowatt-hours} | 2 kWh
        = 3\text{ \AA} | 0.3\text{ nm} | 3\text{ Å}
        = 60\% | 60 per cent | 60\text{ per cent}
        = ₹75 | 75 | \text{Rs. }75 | 75\text{ rupees}
        ! ₹75 | \$75 | 57
        = 8\text{ cents} | 8¢ | \$0.08
        = 2.5\text{ hours} | 150\text{ minutes} | 2\frac12\text{ h}
    """,
    "conditions of several kinds": r"""
        = [-4,6]\setminus\{5\} | -4\le x\le 6, x\ne 5 | -4\le t\le 6,\ t\neq 5
        ! [-4,6]\setminus\{5\} | [-4,6] | -4\le x\le 6, x\ne 4 | -4\le x\le 6, y\ne 5
        = x\ne1, x\ne2 | x\ne2, x\ne1 | (-\infty,1)\cup(1,2)\cup(2,\infty)
        ! x\ne1, y\ne2 | x\ne1, x\ne2
        ! x<1\text{ and }y<2 | x<1\text{ and }x<2 | x<1
        = [-3,3] | |x|\le 3 | 3\ge|x|
        ! [-3,3] | |x|<3 | |x|\ge 3 | x\le 3 | |x|\le -3
        = |y-2|>5 | (-\infty,-3)\cup(7,\infty) | y<-3\text{ or }y>7
        ! |y-2|>5 | (-3,7) | |y+2|>5 | |x-2|>5
    """,
    "per cent and degrees": r"""
        = 35\% | 35 | 0.35 | \frac{7}{20} | 35 percent | 35\text{ percent}
        ! 35\% | 3.5 | 0.35\% | 350
        = 0.35 | 35\% | \frac{7}{20} | 35\text{ percent}
        ! 0.35 | 0.35\% | 35
        ! \frac29 | \frac29\% | 22\%
        = 35 | 35\%
        = \frac13 | 33\frac13\%
        = \sin 30^\circ | \frac12 | 0.5 | \cos 60°
        ! \sin 30^\circ | \sin 30 | \sin 60^\circ
        ! \cos 40 | \cos 40^\circ
        = 60^\circ | 60 degrees | \frac{\pi}{3} | 60
        ! 60^\circ | \frac{\pi}{6} | 60^2 | 60°C
    """,
    "lists, sets and tuples": r"""
        = 2, -3, 5 | 5,2,-3 | \{-3,2,5\} | -3; 2; 5 | x=2,x=-3,x=5
        ! 2, -3, 5 | 2,3,5 | 2,-3 | 2,-3,5,7 | (2,-3,5) | 4
        ! 1, 1, 2 | 1, 2 | 1,2,2
        = \{1, 2\} | \{2, 1\} | 1,2 | \{2,1,1\}
        ! \{1, 2\} | (1,2) | [1,2] | \{1\} | \{1,2,3\} | 12
        = (1,2) | \left(1,\ 2\right) | (1.0, \frac42) | \langle 1,2\rangle
        = (4,7) | (x,y)=(4,7) | P(4,7) | x=4, y=7 | y=7, x=4
        = (1,2), (3,4) | (1,2)\text{ or }(3,4) | (x,y)=(3,4) \text{ or } (x,y)=(1,2)
        ! (1,2), (3,4) | (1,2)\text{ or }(3,5) | (1,4)\text{ or }(3,2)
        ! (4,7) | b=4, m=7 \text{ or } m=4 | m=7, b=4 | y=4, x=7 | (x,y)=(7,4) | P(7,4) | x=7, y=4 | 4, 7
        ! (1,2) | (2,1) | [1,2) | [1,2] | (1,2,3) | 1
        = 4\pm\sqrt7 | 4+\sqrt7,4-\sqrt7 | \{4-\sqrt{7},4+\sqrt{7}\}
        ! 4\pm\sqrt7 | 4+\sqrt7 | 4\pm7 | -4\pm\sqrt7
        ! 5 | 4\pm1 | 5\pm0.1
        = PQ=7, RS=4 | RS = 4, PQ = 7 | 7, 4
        ! PQ=7, RS=4 | 4, 7 | PQ=4, RS=7
        ! 1, 2, \ldots, n | 1, 3, \ldots, 2n-1 | 1,2,n | 1,2
        = 1, 2, \ldots, n | 1,2,\dots,n | 1, 2, ..., n | 1,2,…,n
    """,
    "matrices": r"""
        = \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | \begin{bmatrix}1&2\\3&\frac82\end{bmatrix}
        = \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}.
        ! \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | \begin{pmatrix}1&3\\2&4\end{pmatrix}
        ! \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | \begin{vmatrix}1&2\\3&4\end{vmatrix}
        ! \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | -2 | 4
        = \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | [[1,2],[3,4]]
        ! \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | [[1,3],[2,4]] | [[1,2,3,4]] | [1,2,3,4]
        = \begin{pmatrix} 3 \\ -1 \end{pmatrix} | (3,-1) | [3,-1] | v = \begin{pmatrix} 3 \\ -1 \end{pmatrix}
        = \begin{pmatrix} 3 \\ -1 \end{pmatrix} | -\begin{pmatrix} -3 \\ 1 \end{pmatrix}
        = \begin{pmatrix} 3 \\ -1 \end{pmatrix} | \frac13\begin{pmatrix} 9 \\ -3 \end{pmatrix}
        ! \begin{pmatrix} 3 \\ -1 \end{pmatrix} | \begin{pmatrix} 3 & -1 \end{pmatrix} | (-1,3) | 3, -1
    """,
    "sets of reals": r"""
        = (2,7] | 2<x\le7 | 7\ge x>2 | \{x \mid 2 < x \le 7\} | x\in(2,7] | ]2,7] | (2,5]\cup(5,7]
        ! (2,7] | 3 < x+1 \le 8 | [2,7] | (2,7) | 2\le x\le7 | (2,6] | (2,5)\cup(5,7] | 7 | x>2
        = [1,6) | [1,6[ | 1 <= x < 6
        = \mathbb{R}\setminus\{3\} | \mathbb{R}-\{3\} | x\ne3
        ! \mathbb{R}\setminus\{3\} | \mathbb{R}-\{2\}
        = (-\infty,-1)\cup(2,\infty) | x<-1 \cup x>2
        ! (-1,4) | |2x-3|<5
        = (-\infty,4)\cup(4,\infty) | x\ne4 | \mathbb{R}\setminus\{4\} | x<4 \text{ or } x>4 | (4,\infty)\cup(-\infty,4)
        ! (-\infty,4)\cup(4,\infty) | \mathbb{R} | (-\infty,\infty)
        ! (-\infty,4)\cup(4,\infty) | x<4 \text{ and } x>4 | (-\infty,4)\cup(5,\infty) | x\ne5
        ! (-\infty,0)\cup\{1\} | (-\infty,0)\cup\{2\} | (-\infty,0) | (-\infty,1)
        ! \{x \mid -3\le x<5\} | 5 | -3 | \{-3,5\} | [-3,5]
        ! 0 | \frac{x}{\infty} | \infty-\infty
        = (-\infty,\infty) | \mathbb{R} | \text{all real numbers}
        = x > 3 | (3,\infty) | 3<x | 3 < x < \infty
        = [0,\pi] | 0\le t\le\pi
        = [\sqrt2,3) | \sqrt2\le x<3
        ! [0,\pi] | 0\le x\le3.14159 | 0<x\le\pi
        ! x > 3 | 2x>6 | -x<-3 | x-3>0 | x < 3 | x\ge3 | 3 | x>-3 | y>3
        = -5\leq f(x)\leq 9 | [-5,9]
    """,
    "equations and relations": r"""
        = x^2-6x+2=0 | 2x^2-12x+4=0 | x^2+2=6x | 0=x^2-6x+2
        ! x^2-6x+2=0 | x^2-6x+3=0 | x^2+6x+2=0 | x^2-6x+2 | 0 | x=2
        = y=3x-1 | y=-1+3x | 3x-y=1 | 3x-1 | f(x)=3x-1
        ! y=3x-1 | Y=3x-1 | z=3x-1 | y=3X-1
        = y=\frac{x}{3} | x=3y
        ! y=3x-1 | y=3x+1 | x=3y-1 | y=3x | 3x
        = 7 | x=7 | 7=x | |AB|=7 | P(X>2)=7 | \mathbb{E}[X+1]=7 | \Pr(A\mid B)=7 | x = 7.0 | f(2)=7 | \theta=7 | 3+4=7
        ! 7 | 2x=14 | x-7=0 | 6=7 | 2+6=7 | x=6 | x>7 | x \ne 7
        ! k = 3 | m = 3 | k = -3 | 2k = 6 | k-3 = 0 | k+1=4 | 3k = 3 | 2k=7
        ! u+v=4 | 4 | u+v=5 | v=4
        ! \log_3\frac19=-2 | \log_3\frac19=-3 | -3
        = \log_3\frac19=-2 | -2
        = \frac58=0.625 | \frac58 | 0.625
        = s^2\le 5r^2 | 5r^2\ge s^2 | 2s^2 \le 10 r^2
        ! s^2\le 5r^2 | s^2\ge5r^2 | s^2<5r^2 | s^2\le6r^2
        ! \lim_{x\to 0} u(x) = 3 | \lim_{x\to 1} v(x) = 3 | 3
    """,
    "ratios, times, bases": r"""
        = 9:15 | 09:15 | 9:15 \text{ a.m.}
        ! 9:15 | 9:45 | 15:9 | 18:30 | 3:5
        = 6\!:\!20 \text{ p.m.} | 6:20 pm | 6:20\ \mathrm{P.M.} | 6:20
        ! 6\!:\!20 \text{ p.m.} | 6:20 \text{ a.m.} | 6:21 \text{ p.m.} | 620
        = 10\text{ a.m.} | 10:00 a.m. | 10 AM
        ! 10\text{ a.m.} | 10:00 p.m. | 10:30 a.m.
        = 2:7 | 2 : 7 | 2 \text{ to } 7 | \frac27
        ! 2:7 | 7:2 | 2:9 | 27 | 4:14
        = 253_7 | 253_{7} | 253 | 253_{\text{seven}} | (253)_7
        ! 253_7 | 253_8 | 253_6 | 254_7 | 136
        = \text{B4}_{12} | B4_{12}
        ! \text{B4}_{12} | \text{A4}_{12} | 4 | \text{B4}_{13}
        ! 12 | 12_5
    """,
    "expressions": r"""
        = 3\operatorname{cis} 60^\circ | 3e^{i\pi/3} | \frac32+\frac{3\sqrt3}{2}i | 3\text{cis}60^\circ
        ! 3\operatorname{cis} 60^\circ | 3 | 3\operatorname{cis} 30^\circ
        = x^{10}-2x | x**10-2*x
        = 5 | \Large 5 | 5\ \checkmark | \text{5}\ \blacksquare
        = (x+2)^2 | x^2+4x+4 | (2+x)(x+2) | (x+2)(x+2)
        ! (x+2)^2 | x^2+4 | (x-2)^2 | x^2+4x+5 | (y+2)^2
        = \frac{x+y}{2} | (x+y)/2 | \frac12x+\frac y2 | 0.5(x+y)
        ! \frac{x+y}{2} | x+\frac y2 | x+y/2 | \frac{2}{x+y}
        = 2\sin x\cos x | \sin 2x | \sin(2x)
        ! 2\sin x\cos x | \sin x\cos x | 2\sin x | \sin^2 x | \sin x^2
        = \cos^2 t | 1-\sin^2 t | (\cos t)^2
        ! f(2x) | 2f(x) | f(x) | f(-2x)
        = 2^{n+1} | 2\cdot2^n
        ! 2^{n+1} | 2^n+1 | 2^{n}
        = \frac{n!}{(n-1)!} | n
        = (1-i)^2 | -2i
        ! \sqrt{x^2} | x | -x
        = \sqrt{x^2} | |x|
        = \log_2 8x | 3+\log_2 x
        ! 1000 | \lg 1000 | \log 1000
        = \lg 1000 | 3
        = |x-3| | \left|3-x\right|
        = \binom{9}{4} | 126
        ! x_1 | x_2 | x | x1
        = \frac{1}{5}\triangle PQR | \triangle PQR/5
        ! \frac{a}{b}c | \frac{a}{bc}
        = 8x^9-125y^6 | (2x^3)^3-(5y^2)^3
        ! \frac{x^2}{9} ** y, 7 | \frac{x^2}{4} ** z, 7
    """,
}


def pairs(block: str, sign: str) -> list[tuple[str, str]]:
    found = []
    for line in block.strip().splitlines():
        gold, *others = re_split(line.strip()[1:])
        if line.strip()[0] == sign:
            found += [(gold, other) for other in others]
    return found


def re_split(line: str) -> list[str]:
    return [part.strip() for part in line.split(" | ")]


@pytest.mark.parametrize("kind", KINDS)
def test_right_spellings_are_paid_and_wrong_values_are_not(kind: str) -> None:
    right = [pair for pair in pairs(KINDS[kind], "=") if math(pair[1], pair[0]) != 1]
    wrong = [pair for pair in pairs(KINDS[kind], "!") if math(pair[1], pair[0]) != 0]
    own = [gold for sign in "=!" for gold, _ in pairs(KINDS[kind], sign) if math(gold, gold) != 1]
    assert (right, wrong, own) == ([], [], [])


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            "6.626e-34",
            [r"6.63\times10^{-34}", r"6.62 \times 10^{-34}\ \text{J s}"],
            ["1.38e-23", "-6.626e-34", "6.626e-31"],
        ),
        ("0.00002", ["0.00002", r"2\times10^{-5}"], ["0.00004", "0", "0.0000205"]),
        ("0.143", [r"\frac17", "1/7", "0.1429"], [r"\frac16", "0.16"]),
        ("1.73", [r"\sqrt3", "1.732"], [r"\sqrt2", "1.8"]),
        (r"\sqrt3", ["1.73", "1.732", "1.7321"], ["1.7", "1.72", "1.74", "2"]),
        (r"\frac17", ["0.143"], ["0.14", "0.144"]),
        ("120", ["120", "120.0"], ["121", "119.5", "120.4"]),
        (r"\sqrt{3gh}", [r"\sqrt3\sqrt g\sqrt h"], [r"\sqrt{3g}h", r"3\sqrt{gh}"]),
        (
            r"2\pi\sqrt{\frac{m}{k}}",
            [r"2\pi\frac{\sqrt m}{\sqrt k}"],
            [r"2\pi\sqrt{\frac{k}{m}}", r"2\pi\sqrt{\frac{M}{k}}"],
        ),
        (
            "9.8 m/s^2",
            ["9.8", r"9.81\ \mathrm{m\,s^{-2}}", r"980\text{ cm/s}^2", "9.8 m/s²"],
            ["96", "9.8 m/s", "9.8 km/s^2"],
        ),
        (r"4\text{ s}^{-1}", ["4", r"4\ \mathrm{s^{-1}}", "4 Hz"], [r"\frac14", "4 s"]),
        ("D", ["(D)", "[D]", "D. 4 J", "Answer: D", r"\mathbf{D}"], ["C", "d", "C or D"]),
        ("120 V", ["120", r"120\text{ volts}", r"0.12\ \mathrm{kV}"], ["120 A", "12 V", "120 mV"]),
        (r"47\,\mathrm{k\Omega}", ["47", r"47000\ \Omega"], [r"47\ \Omega", "47 kV"]),
        (r"250\,\mu\mathrm{m}", ["250", "0.25 mm", "250 μm"], ["250 mm", "250 m"]),
        (
            r"\Delta H = -75.0 \text{ kJ/mol}",
            ["-75.0", r"-75.0\ \mathrm{kJ\,mol^{-1}}"],
            ["75.0", r"-75.0\text{ J/mol}"],
        ),
        ("pH = 4.75", ["4.75", r"\mathrm{pH}=4.75"], ["3.75", "pOH = 4.75"]),
        (r"20^\circ C", ["20", "20 °C", r"20^\circ"], ["293", "20 K", "20°F"]),
        (r"\frac{\hbar^2 k^2}{2m}", [r"\frac{(\hbar k)^2}{2m}"], [r"\frac{h^2 k^2}{2m}", r"\frac{\hbar^2 k^2}{2M}"]),
        (r"q\vec{v}\times\vec{B}", [r"q \vec v \times \vec B"], [r"q\vec{B}\times\vec{v}"]),
        (r"\mathrm{Cu}^{2+}", ["Cu^{2+}", r"\text{Cu}^{2+}"], [r"\mathrm{Cu}^{+}", r"\mathrm{Cu}^{3+}"]),
        ("0.33", [r"\frac13", "0.332"], [r"\frac38", "0.34"]),
        ("2.0 J", ["2.0", "2 J", "2000 mJ"], ["2 kJ", "2 N"]),
        (
            r"3\hat{i}-2\hat{k}",
            [r"3\mathbf{i}-2\mathbf{k}", r"-2\vec{k}+3\vec{i}", "(3, 0, -2)"],
            ["(3, -2)", r"3\hat{k}-2\hat{i}", "3i-2k", "1"],
        ),
        ("72 km/h", ["20 m/s", "20.0 m/s"], ["19.9 m/s", "72 m/s"]),
        ("50 km/h", ["13.9 m/s"], ["14 m/s", "13.8 m/s"]),
        ("1 atm", ["760 mmHg", "101325 Pa"], ["1 bar", "750 mmHg"]),
        (r"\sim 10^{7}", ["10^7", r"\approx 10^7"], ["10^6", "7"]),
        ("1s^2 2s^2", ["1s^{2}2s^{2}", "1s^{2}\\,2s^{2}"], ["1s^2 2s^1", "1s^22s^2 2p^1"]),
    ],
)
def test_stem_values_have_the_precision_they_are_written_with(gold: str, right: list[str], wrong: list[str]) -> None:
    assert [answer for answer in [gold, *right] if stem(answer, gold) != 1] == []
    assert [answer for answer in wrong if stem(answer, gold) != 0] == []


@pytest.mark.parametrize(
    ("response", "gold", "score", "status"),
    [
        (r"\boxed {42}", "42", 1, "ok"),
        ("\\boxed\n{42}", "42", 1, "ok"),
        (r"\boxed 7", "7", 1, "ok"),
        (r"\boxed7", "7", 1, "ok"),
        (r"\fbox{42}", "42", 1, "ok"),
        (r"\boxedx{42}", "42", 0, "format"),
        (r"\boxed{}", "42", 0, "format"),
        (r"\boxed{42", "42", 0, "format"),
        (r"\boxed{42} \boxed{43", "42", 0, "format"),
        ("42", "42", 0, "format"),
        ("\\boxed{\u0664\u0662}", "42", 0, "format"),
        (r"\boxed{4} and \boxed{9}", "4, 9", 1, "ok"),
        (r"first \boxed{1}, then \boxed{4} and \boxed{9}", "4, 9", 1, "ok"),
        (r"\boxed{4} or \boxed{9}", "9", 0, "wrong"),
        (r"\boxed{9} or \boxed{4}", "9", 0, "wrong"),
        (r"$\boxed{4}$, $\boxed{9}$", "9", 0, "wrong"),
        (r"\boxed{4}\text{ and }\boxed 9", "9", 0, "wrong"),
        (r"\boxed{9}, \boxed{\frac{18}{2}}", "9", 1, "ok"),
        (r"\boxed{4}. No, it is \boxed{9}.", "9", 1, "ok"),
        (r"\boxed{D} or \boxed{B}", "B", 0, "wrong"),
        (r"\boxed{2}, \boxed{4}, \boxed{9}", "4, 9", 0, "wrong"),
        (r"\boxed{9}, put into \boxed{} as asked", "9", 1, "ok"),
        (r"\boxed{9}", "4, 9", 0, "wrong"),
        (r"\boxed{4}", r"so \boxed{4} and \boxed{9}", 0, "wrong"),
        (r"\boxed{4, 9}", r"so \boxed{4} and \boxed{9}", 1, "ok"),
        (r"\boxed{4}", r"so \boxed{4}", 1, "ok"),
        (r"\boxed{5/7}", [r"\frac{1}{1.4}", r"\frac57"], 1, "ok"),
        (r"\boxed{2}", ["1", "2"], 1, "ok"),
        (r"\boxed{u=4} and \boxed{v=9}", "(4, 9)", 1, "ok"),
        (r"\boxed{u=9} and \boxed{v=4}", "(4, 9)", 0, "wrong"),
        (r"\boxed{9} and \boxed{4}", "(4, 9)", 0, "wrong"),
        (r"\boxed{$\textbf{(E)}$}", "E", 1, "ok"),
        (r"\boxed{\textcolor{blue}{$\text{(E)}$}}", "E", 1, "ok"),
        (r"\boxed{\textcolor{blue}{$\text{(E)}$}}", "D", 0, "wrong"),
        (r"\boxed{1, 2}", ["1", "2"], 0, "wrong"),
        (r"\boxed{1}", "", 0, "error"),
    ],
)
def test_boxes_and_references(response: str, gold: object, score: float, status: str) -> None:
    found = score_math(response, {"answer": gold})
    assert found[:2] == (score, status)
    assert found[2]  # every verdict says why


def test_an_answer_that_is_not_read_is_told_from_a_wrong_one() -> None:
    *_, why = score_math(r"\boxed{\sum_k k}", {"answer": "3"})
    assert "sum" in why
    *_, why = score_math(r"\boxed{3}", {"answer": r"\sum_k k"})
    assert "reference is text" in why
    assert score_math(r"\boxed{\sum_k k}", {"answer": r"\sum_{k} k"})[0] == 1


# --- the tree and its value against Python's own arithmetic


def test_random_arithmetic_is_worth_what_python_says() -> None:
    rng = random.Random(3)

    def made(depth: int) -> tuple[str, Fraction]:
        if depth == 0:
            number = rng.randint(1, 9)
            return str(number), Fraction(number)
        a, x = made(depth - 1)
        b, y = made(depth - 1)
        match rng.choice("+-*/^"):
            case "+":
                return f"({a}+{b})", x + y
            case "-":
                return rf"\left({a}-{b}\right)", x - y
            case "*":
                return rf"{a}\cdot {b}", x * y
            case "/" if y:
                return rf"\frac{{{a}}}{{{b}}}", x / y
        return f"({a})^{{2}}", x**2

    for _ in range(300):
        text, worth = made(rng.randint(1, 4))
        try:
            found = evaluate.number(grammar.parse(tokenize(text)))
        except NotRead:
            assert "/" in text or "frac" in text  # divided by zero
            continue
        assert found == worth, text


def test_close_values_differ_and_noise_does_not() -> None:
    def same(a: str, b: str) -> bool:
        return evaluate.same(grammar.parse(tokenize(a)), grammar.parse(tokenize(b)))

    assert same(r"\sqrt{2}^2", "2")
    assert same(r"\sqrt{5+2\sqrt6}", r"\sqrt2+\sqrt3")
    assert same(r"\sin 15^\circ", r"\frac{\sqrt6-\sqrt2}{4}")
    assert not same(r"\sqrt{2}", r"\frac{665857}{470832}")  # agrees to 12 digits
    assert not same(r"e^{\pi\sqrt{163}}", "262537412640768744")  # to 30 digits
    assert not same(r"\pi", r"3.14159265358979323846264338327950288419716939937510")  # to 50


# --- hostile texts

HOSTILE = {
    "double factorials": "(99999!!)!!" + "!" * 400,
    "congruences": r"x\equiv " * 40 + r"10^{60000} \pmod{0}",
    "cases": r"\begin{cases}" * 20 + "1&x>1" + r"\\ 1&x>1" * 20 + r"\end{cases}",
    "lines": r"\begin{aligned}" + r"x&=1\\" * 50 + r"\end{aligned}",
    "reactions": r"A^+ + B \to " * 40,
    "parts": "2'3''" * 90,
    "multiples": "2" + r"\text{ million}" * 32,
    "powers of Python": "x**2" * 120,
    "towers": "9^{9^{9^{9^9}}}",
    "a tower of towers": r"5^{5^{5^{5^5}}}",
    "factorials": "((9!)!)!",
    "a large factorial": "(10^9)!",
    "a large binomial": r"\binom{10^9}{500000000}",
    "a large power": "2^{10^9}",
    "a power of a sum": "(x+1)^{10000}",
    "many terms": "(a+b+c+d+e)^{60}",
    "exp of exp": "e^{e^{e^{e^{10}}}}",
    "sine of a tower": r"\sin(2^{2^{30}})",
    "tangent of a large angle": r"\tan(10^{100})",
    "logarithms": r"\log\log\log\log 10",
    "root of a large index": r"\sqrt[10^{100}]{2}",
    "a division by zero": r"\frac{1}{0}+\frac{x}{0}",
    "zero to minus one": "0^{-1}",
    "brackets": "(" * 200 + ")" * 200,
    "brackets around a number": "(" * 200 + "1" + ")" * 200,
    "braces": "{" * 200 + "}" * 200,
    "tuples in tuples": "(1," * 120 + "1" + ")" * 120,
    "lists": "1," * 240 + "1",
    "unions": r"(0,1)\cup" * 55 + "(0,1)",
    "minus signs": "-" * 490 + "1",
    "carets": "^" * 490,
    "powers": "x" + "^x" * 240,
    "degrees": "1" + "°" * 450,
    "bars": "|" * 490,
    "roots": r"\sqrt" * 95 + "2",
    "fractions": r"\frac" * 95 + "12",
    "fonts": r"\text" * 95 + "x",
    "functions": r"\sin" * 120 + "x",
    "begin": r"\begin{pmatrix}" * 30,
    "plus-minus": r"\pm1" * 120,
    "blanks": "1" + " " * 450 + "1",
    "digits": "9" * 499,
    "decimals": "0." + "9" * 490,
    "an exponent of many digits": "1e" + "9" * 480,
    "thousands": "1" + ",000" * 120,
    "chains": "x=" * 240 + "1",
    "letters": "abcdefghijklmnopqrstuvwxyz" * 19,
    "words": r"\text{ or }" * 45,
    "dollars": "$" * 490,
    "backslashes": "\\" * 489,
    "accents": r"\overline" * 55 + "1",
    "primes": "f" + "'" * 480 + "(x)",
    "subscripts": "x" + "_x" * 240,
    "factorial signs": "3" + "!" * 400,
    "code": "__import__('os').system('true')",
    "surrogates": "\ud800" * 100,
    "NUL": "\0" * 400,
}
GOLDS = ["42", r"\frac{1}{3}", "x^2+1", "(1,2)", "1, 2", "(0,1]", "y=2x", "C", r"\text{even}", "17_8", r"\sqrt2", "x>1"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_get_their_verdict_at_once(name: str) -> None:
    """Against every kind of reference, and as the reference; processor time, far above what a verdict needs."""
    text = HOSTILE[name]
    start = time.process_time()
    for gold in GOLDS:
        for score in (score_math, score_stem):
            assert score(f"\\boxed{{{text}}}", {"answer": gold})[0] == 0
            assert score(f"\\boxed{{{gold}}}", {"answer": text})[0] == 0
    assert score_math(f"\\boxed{{{text}}}", {"answer": text})[1] in ("ok", "wrong", "format")
    assert time.process_time() - start < 20  # 48 verdicts: a guard against minutes, not a measurement


@pytest.mark.parametrize("unit", ["\\boxed{", "\\boxed{1}", "\\boxed", "\\boxed{\\boxed{1}", "\\fbox {"])
def test_boxes_without_number_are_found_in_bounded_time(unit: str) -> None:
    start = time.process_time()
    score_math(unit * (900_000 // len(unit)), {"answer": "42"})
    assert time.process_time() - start < 10


# --- real references


def golds(name: str) -> list[str]:
    folder = os.environ.get("PRORL_TEST_DATA")
    if not folder:
        pytest.skip("PRORL_TEST_DATA does not name the folder of real test data")
    path = Path(folder, "math", name)
    if path.suffix == ".jsonl":
        return [json.loads(row)["answer"].rpartition("####")[2].strip() for row in path.read_text().splitlines()]
    return [str(row["answer"]) for row in json.loads(path.read_text())]


FILES = ["eval_aime.json", "eval_amc.json", "eval_math.json", "train_math.json", "gsm8k_test.jsonl"]


def test_real_references_are_read_and_are_themselves_and_no_other() -> None:
    found = sorted({gold for name in FILES for gold in golds(name) if gold.strip() and len(gold) <= 500})
    assert len(found) > 3_000
    texts = [(gold, reader.read(gold, gold=True)) for gold in found]
    read_as_text = ("letters", "a date")
    unread = [gold for gold, value in texts if isinstance(value, Text) and not value.why.startswith(read_as_text)]
    assert [g for g in unread if not set(canonical(tokenize(g))) <= set("abcdefghijklmnopqrstuvwxyz ")] == []  # words
    assert [gold for gold in found if math(gold, gold) != 1] == []
    shuffled = random.Random(0).sample(found, len(found))
    paid = {(a, b) for a, b in zip(found, shuffled, strict=True) if math(a, b) and a.strip() != b.strip()}
    assert paid <= {(r"\dfrac{5}{8}", "0.625"), ("0.625", r"\dfrac{5}{8}")}  # the one value twice


def changes(gold: str, rng: random.Random) -> list[str]:
    """Texts of another value: a digit, a sign, a letter's case, an exponent, a member more, nought and one."""
    found = ["0", "1", f"-({gold})", f"{gold}+1", f"({gold})^2", f"{gold}, 77", f"2({gold})"]
    places = [i for i, character in enumerate(gold) if character.isdigit()]
    for place in rng.sample(places, min(3, len(places))):
        found.append(gold[:place] + str((int(gold[place]) + rng.randint(1, 8)) % 10) + gold[place + 1 :])
    return found


def test_changed_integers_of_real_references_are_never_paid() -> None:
    """Plain integers, whose changes' values Python itself computes."""
    rng = random.Random(1)
    whole = [g for name in FILES for g in golds(name) if g.isdigit() and len(g) < 8 and int(g) > 1]
    tried = 0
    for gold in rng.sample(whole, 400):
        for text in changes(gold, rng):
            if text.isdigit() and int(text) == int(gold):
                continue
            tried += 1
            assert math(text, gold) == 0, (text, gold)
    assert tried > 3_000


# --- what a person sees


def test_check_prints_the_values_and_the_rule() -> None:
    command = [sys.executable, "-m", "prorl_scale.rewards", "check", "--domain", "math", "--gold", "-3"]
    done = subprocess.run(
        [*command, "--answer", r"x = -\frac{6}{2}\text{ cm}"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["reference"] == "quantity: text -3, tree neg(3)"
    assert "unit cm" in lines["answer"]
    assert "name x" in lines["answer"]
    assert lines["rule"] == "named value, a unit on one side"
    assert lines["verdict"] == "1 (ok)"


@pytest.mark.parametrize("module", [info.name for info in pkgutil.iter_modules(answers.__path__)])
def test_examples_in_docstrings(module: str) -> None:
    assert doctest.testmod(importlib.import_module(f"{answers.__name__}.{module}")).failed == 0


def test_examples_of_the_doors() -> None:
    for module in (math_answers, extract):
        result = doctest.testmod(module)
        assert result.failed == 0
        assert result.attempted > 0


def test_equality_is_symmetric_where_both_are_answers() -> None:
    """Sides may be swapped except where the question speaks for one of them: units, names, bases and the like."""
    kinds = (
        *("the case of symbols", "letters in order", "roots, powers and constants", "mixed numbers and blanks"),
        *("repeating decimals", "matrices", "sets of reals", "expressions"),
    )
    for a, b in itertools.chain.from_iterable(pairs(KINDS[kind], "=") for kind in kinds):
        assert math(a, b) == 1, (a, b)
