"""Figures of the project's own wireframe, set by hand.

Lengths are in outer eye distances, about 9 cm; the origin lies between the outer corners
of the eyes. x points to the subject's left, y up, z to the camera. Only the left half is
given: what has a partner on the right is mirrored. Positions of the points that pictures
show follow the mean of frontal faces, depths the proportions of adult heads. What training
on annotated faces changes is kept apart, in ``pretrained/candide``.
"""

# Slots 0 to 112 keep the number and the meaning that Candide-3 gives them (Ahlberg 2001);
# 4, 35 to 39 and 41 to 43 are reserved there. 113 to 115 are the project's own.
VERTICES = """
0    0.000  1.350 -0.750  skull_top
1    0.220  0.930  0.000  hairline_middle
2    0.000  0.550  0.220  forehead
3    0.000  0.170  0.270  between_brows
5    0.000 -0.400  0.550  nose_tip
6    0.000 -0.540  0.400  nose_bottom
7    0.000 -0.692  0.400  upper_lip
8    0.000 -0.880  0.360  lower_lip
9    0.000 -1.080  0.330  chin_boss
10   0.000 -1.285  0.200  chin_bottom
11   0.350  1.300 -0.750  skull
12   0.650  1.100 -0.720  skull_upper_side
13   0.500  0.780 -0.120  hairline
14   0.800  0.500 -0.520  skull_side
15   0.665  0.141 -0.120  brow_outer
16   0.423  0.269  0.140  brow_top
17   0.131  0.199  0.240  brow_inner
18   0.410  0.200  0.140  brow_under
19   0.355  0.100  0.120  upper_lid_fold
20   0.500  0.000  0.000  eye_outer
21   0.357  0.048  0.130  upper_lid
22   0.362 -0.037  0.110  lower_lid
23   0.208 -0.020  0.100  eye_inner
24   0.360 -0.095  0.100  lower_lid_fold
25   0.140 -0.220  0.250  nose_border
26   0.180 -0.489  0.290  nostril
27   0.600 -0.220  0.000  cheek_bone
28   0.830 -0.300 -0.580  ear_low
29   0.840  0.020 -0.580  ear_high
30   0.700 -0.850 -0.380  jaw_corner
31   0.316 -0.746  0.220  mouth_corner
32   0.220 -1.230  0.160  chin_corner
33   0.080 -0.672  0.385  upper_lip_peak
40   0.000 -0.770  0.355  inner_lower_lip
67   0.415  0.045  0.105  iris_outer_upper
68   0.415 -0.035  0.105  iris_outer_lower
71   0.295  0.045  0.125  iris_inner_upper
72   0.295 -0.035  0.125  iris_inner_lower
75   0.075 -0.410  0.460  nose_tip_side
77   0.075  0.020  0.240  nose_bone_upper
79   0.199 -0.697  0.315  upper_lip_side
81   0.081 -0.755  0.345  inner_upper_lip_side
83   0.081 -0.768  0.340  inner_lower_lip_side
85   0.145 -0.858  0.310  lower_lip_side
87   0.000 -0.758  0.360  inner_upper_lip
88   0.268 -0.752  0.245  inner_mouth_corner
90   0.450 -0.550  0.130  cheek
92   0.085 -0.180  0.320  nose_bone_lower
94   0.000 -0.112  0.350  nose_bridge
95   0.450  0.075  0.050  upper_lid_fold_outer
97   0.440  0.035  0.065  upper_lid_outer
99   0.440 -0.028  0.060  lower_lid_outer
101  0.455 -0.065  0.050  lower_lid_fold_outer
103  0.255  0.075  0.150  upper_lid_fold_inner
105  0.270  0.030  0.130  upper_lid_inner
107  0.275 -0.036  0.120  lower_lid_inner
109  0.260 -0.080  0.140  lower_lid_fold_inner
111  0.070 -0.520  0.370  nose_bottom_edge
113  0.355  0.005  0.140  pupil
115  0.000 -0.745  0.300  teeth
"""

RESERVED = (4, 35, 36, 37, 38, 39, 41, 42, 43)

# of each vertex on the left the one on the right
PARTNERS = """
1 34, 11 44, 12 45, 13 46, 14 47, 15 48, 16 49, 17 50, 18 51, 19 52, 20 53, 21 54, 22 55,
23 56, 24 57, 25 58, 26 59, 27 60, 28 61, 29 62, 30 63, 31 64, 32 65, 33 66, 67 69, 68 70,
71 73, 72 74, 75 76, 77 78, 79 80, 81 82, 83 84, 85 86, 88 89, 90 91, 92 93, 95 96, 97 98,
99 100, 101 102, 103 104, 105 106, 107 108, 109 110, 111 112, 113 114
"""

# Vertex, then the points of the 68 that show it: the mean of two
LANDMARKS = """
48 17, 49 19, 50 21, 17 22, 16 24, 15 26, 53 36, 56 39, 54 37 38, 55 40 41, 23 42, 20 45,
21 43 44, 22 46 47, 94 28, 5 30, 6 33, 26 35, 59 31, 64 48, 31 54, 7 51, 8 57, 66 50,
33 52, 80 49, 79 53, 86 58 59, 85 55 56, 89 60, 88 64, 87 62, 40 66, 82 61, 81 63, 84 67,
83 65, 10 8
"""

# Displacements of the left half for a parameter of 1. "a b: x y z" moves a and b alike.
SHAPE_UNITS = """
head_height       0: 0 .20 0; 1 11 13: 0 .12 0; 12 14: 0 .08 0; 2: 0 .04 0
face_width        27: .05 0 0; 28 29: .08 0 0; 30: .07 0 0; 12 14: .07 0 0; 13: .04 0 0;
                  90: .03 0 0; 32: .03 0 0; 15: .015 0 0
brow_height       15 16 17 18: 0 .06 0; 3: 0 .03 0; 19 95 103: 0 .015 0
eye_height        19 20 21 22 23 24 95 97 99 101 103 105 107 109 67 68 71 72 113: 0 .05 0
eye_width         20: .03 0 0; 23: -.03 0 0; 95 97 99 101: .018 0 0;
                  103 105 107 109: -.018 0 0
eye_opening       21: 0 .018 0; 97 105: 0 .012 0; 19: 0 .015 0; 22: 0 -.012 0;
                  99 107: 0 -.009 0; 24: 0 -.01 0
eye_separation    19 20 21 22 23 24 95 97 99 101 103 105 107 109 67 68 71 72 113: .03 0 0;
                  17: .02 0 0; 16 18: .02 0 0; 15: .02 0 0
cheek_depth       27 90: .01 0 .07; 24: 0 0 .02
nose_depth        5: 0 0 .10; 75: 0 0 .08; 94: 0 0 .06; 6 111: 0 0 .05; 92: 0 0 .04
nose_length       5 75: 0 -.06 0; 6 26 111: 0 -.06 0; 25 92: 0 -.03 0; 94: 0 -.02 0
nose_width        26: .03 0 0; 75 111: .012 0 0; 25 92: .01 0 0
mouth_height      7 8 31 33 40 79 81 83 85 87 88 115: 0 -.06 0; 9: 0 -.03 0; 90: 0 -.02 0
mouth_width       31 88: .05 0 -.015; 79 85: .03 0 0; 81 83: .015 0 0; 33: .01 0 0
chin_height       10: 0 -.10 0; 9: 0 -.06 0; 32: 0 -.09 0; 30: 0 -.04 0
"""

# Standard deviations among adults at rest of the shape units that expressions change too,
# from those of distances on faces by what a unit of the parameter changes. Rounded after
# Farkas 1994, in mm: height of the eye's slit 1.2, width of the mouth 3.2, subnasale to
# stomion 2.1, stomion to gnathion 4.2, width of the nose 2.1, nasion to subnasale 3.3; brow
# over the eye 2.
ADULT_SPREADS = {
    "brow_height": 0.4,
    "eye_opening": 0.45,
    "mouth_height": 0.4,
    "mouth_width": 0.36,
    "chin_height": 0.45,
    "nose_width": 0.4,
    "nose_length": 0.6,
}

# "left" and "right" units move one half; the others both.
ANIMATION_UNITS = """
AU01 sides        17: -.01 .12 .01; 16 18: 0 .05 .01; 3: 0 .03 0; 2: 0 .01 0
AU02 sides        15: 0 .10 0; 16: 0 .10 .01; 18: 0 .09 0; 17: 0 .02 0; 19 95: 0 .015 0
AU04 sides        17: -.05 -.09 .02; 16 18: -.03 -.07 .01; 15: -.01 -.03 0; 3: 0 -.03 .01;
                  19 103: 0 -.015 0
AU05 sides        21: 0 .05 -.01; 97 105: 0 .03 0; 19: 0 .02 -.01; 95 103: 0 .01 0
AU06 sides        27: 0 .05 .03; 90: 0 .05 .03; 24: 0 .04 .02; 101: 0 .04 .01;
                  109: 0 .02 .01;
                  22: 0 .02 .01; 99 107: 0 .013 0; 20: -.015 -.005 0; 15: 0 -.02 0
AU07 sides        22: 0 .035 0; 99 107: 0 .025 0; 24: 0 .02 .01; 21: 0 -.015 0
AU09 sides        26: 0 .06 .01; 25: 0 .03 .02; 92: 0 .02 .02; 75 111: 0 .03 0; 5: 0 .01 0;
                  17: -.02 -.05 .02; 3: 0 -.02 .01; 33: 0 .05 0; 79: 0 .04 0; 7: 0 .02 0;
                  24 109: 0 .03 .01; 6: 0 .01 0
AU10 sides        33: 0 .09 .02; 79: 0 .08 .02; 7: 0 .035 .01; 81: 0 .08 .02;
                  87: 0 .035 .01;
                  26: .01 .03 0; 31 88: 0 .02 0
AU11 sides        26: .01 .02 0; 79: .02 .04 0; 33: 0 .02 0; 81: .01 .03 0; 90: 0 .03 .03
AU12 sides        31 88: .12 .10 -.06; 79: .06 .04 -.03; 85: .06 .03 -.03;
                  81 83: .04 .02 -.02;
                  33: .02 0 -.01; 90: .04 .08 .03; 24 27: 0 .02 .01; 26: .02 .01 0
AU13 sides        31 88: .03 .12 -.03; 79 85: .01 .035 -.01; 90: 0 .07 .05
AU14 sides        31 88: .07 .005 -.06; 79 85: .035 0 -.02; 81 83: .02 0 -.01;
                  90: .02 0 -.02
AU15 sides        31 88: .01 -.10 -.02; 79: 0 -.03 0; 85: 0 -.04 0; 81 83: 0 -.012 0;
                  90: 0 -.03 0
AU16 both         8: 0 -.08 .01; 85: .01 -.07 .01; 83: 0 -.08 0; 40: 0 -.09 0
AU17 both         9: 0 .08 .02; 10: 0 .04 0; 32: 0 .03 .01; 8: 0 .06 .03; 85: 0 .05 .02;
                  40 83: 0 .04 .02; 87 81: 0 .02 .01; 7 33: 0 .015 .01; 31 88: 0 -.02 0
AU18 both         31 88: -.12 0 .06; 79: -.06 .01 .06; 85: -.05 0 .06; 33: -.02 .01 .07;
                  7: 0 .01 .07; 8: 0 0 .07; 81 83: -.03 0 .06; 87 40: 0 0 .06; 90: -.03 0 0
AU20 sides        31 88: .11 -.03 -.05; 79 85: .06 -.01 -.03; 81 83: .03 0 -.01;
                  90: .04 -.02 -.01
AU22 both         31 88: -.07 0 .04; 33: -.005 .04 .09; 7: 0 .04 .09; 79: -.03 .04 .07;
                  8: 0 -.05 .09; 85: -.03 -.04 .07; 87: 0 .03 .06; 40: 0 -.04 .06;
                  81: -.02 .03 .05;
                  83: -.02 -.03 .05
AU23 both         31 88: -.05 0 .01; 79 85: -.025 0 -.01; 33: -.01 -.02 -.02;
                  7: 0 -.02 -.02;
                  8: 0 .025 -.02
AU24 both         7 33: 0 -.03 -.01; 79: 0 -.02 -.01; 8: 0 .04 -.01; 85: 0 .035 -.01
AU25 both         87: 0 .02 0; 81: 0 .015 0; 7 33: 0 .015 0; 40: 0 -.04 0; 83: 0 -.035 0;
                  8: 0 -.035 0; 85: 0 -.03 0
AU26 both         40: 0 -.18 -.03; 83: 0 -.17 -.03; 8: 0 -.19 -.04; 85: 0 -.17 -.04;
                  9: 0 -.20 -.06; 10: 0 -.20 -.08; 32: 0 -.18 -.07; 31 88: -.02 -.06 -.02;
                  30: 0 -.05 -.03; 90: 0 -.04 -.01
AU27 both         40: 0 -.40 -.08; 83: -.01 -.37 -.08; 8: 0 -.41 -.10; 85: -.02 -.37 -.10;
                  9: 0 -.42 -.15; 10: 0 -.43 -.20; 32: 0 -.38 -.16; 31 88: -.06 -.16 -.05;
                  30: -.01 -.12 -.08; 90: -.03 -.10 -.04; 7 33 87 81: 0 .02 0; 79: -.02 0 0
AU28 both         7 33: 0 -.05 -.05; 79: 0 -.04 -.04; 8: 0 .06 -.05; 85: 0 .05 -.05;
                  87 81 40 83: 0 0 -.04; 9: 0 .02 0
AU29 both         9 10 32 8 85 40 83: 0 0 .12; 30: 0 0 .06
AU30 shift        9 10 32 8 85 40 83: .10 0 0; 31 88: .04 0 0; 30: .05 0 0
AU34 sides        90: .06 0 .10; 27: .01 0 .03; 30: .01 0 0; 31 88: -.02 0 .01
AU35 sides        90: -.05 0 -.08; 31 88: -.03 0 .02
AU38 both         26: .03 .005 0; 111 75: .01 0 0
AU39 both         26: -.02 0 0; 111 75: -.008 0 0
AU43 both         21: 0 -.078 0; 97 105: 0 -.055 0; 19: 0 -.02 .01; 95 103: 0 -.01 0;
                  22 99 107: 0 .004 0
AU46 sides        21: 0 -.07 0; 97 105: 0 -.05 0; 19: 0 -.03 .01; 22: 0 .015 0;
                  99 107: 0 .01 0; 27 90: 0 .03 .02; 24: 0 .03 .01
AU61 gaze         67 68 71 72 113: .06 0 0
AU62 gaze         67 68 71 72 113: -.06 0 0
AU63 both         67 68 71 72 113: 0 .04 0; 21 97 105: 0 .01 0
AU64 both         67 68 71 72 113: 0 -.04 0; 21 97 105: 0 -.02 0
FAP04 both        87: 0 -.05 0; 81: 0 -.02 0
FAP05 both        40: 0 .05 0; 83: 0 .02 0
FAP08 left        81: 0 -.05 0
FAP09 right       81: 0 -.05 0
FAP10 left        83: 0 .05 0
FAP11 right       83: 0 .05 0
FAP16 both        8 40 85 83: 0 0 .06
FAP17 both        7 33 79 87 81: 0 0 .06
FAP18 both        9: 0 -.06 0; 10: 0 -.08 0; 32: 0 -.06 0
FAP51 both        7: 0 -.05 0; 33: 0 -.04 0
FAP63 both        5: 0 .05 0; 75: 0 .03 0; 6 111: 0 .01 0
"""

# What faces do often, and what points of a face tell apart best. A prior that allows these
# much and the others little decides between units that move a face alike: AU12 or AU13 and
# AU14, AU24 or AU23 and AU28, AU26 or AU29 and FAP18, AU10 or AU11.
COMMON_UNITS = """
AU01 AU02 AU04 AU05 AU06 AU07 AU09 AU10 AU12 AU15 AU17 AU18 AU20 AU24 AU25 AU26 AU27 AU43
"""

# Corners counter-clockwise as seen from outside; the right half has the mirrored ones.
TRIANGLES = """
0 1 11, 0 2 1, 1 2 16, 1 13 11, 1 16 13, 2 3 17, 2 17 16, 3 77 17, 3 94 77, 5 6 111,
5 25 92, 5 75 25, 5 92 94, 5 111 75, 6 7 33, 6 33 111, 7 81 33, 7 87 81, 8 9 85, 8 83 40,
8 85 83, 9 10 32, 9 32 85, 11 13 12, 12 13 14, 13 15 14, 13 16 15, 14 15 29, 15 16 95,
15 20 27, 15 27 28, 15 28 29, 15 95 20, 16 17 18, 16 18 95, 17 77 103, 17 103 18,
18 19 95, 18 103 19, 19 21 97, 19 97 95, 19 103 21, 20 95 97, 20 99 101, 20 101 27,
21 103 105, 22 24 99, 22 107 24, 23 77 92, 23 92 109, 23 103 77, 23 105 103, 23 109 107,
24 25 26, 24 26 90, 24 27 101, 24 90 27, 24 101 99, 24 107 109, 24 109 25, 25 75 26,
25 109 92, 26 33 79, 26 75 111, 26 79 90, 26 111 33, 27 30 28, 27 90 30, 30 31 32,
30 90 31, 31 79 88, 31 85 32, 31 88 85, 31 90 79, 33 81 79, 77 94 92, 79 81 88,
83 85 88
"""

# Left halves of the openings: from the outer corner inwards, upper and lower edge
EYE_OPENING = (20, 97, 21, 105, 23), (20, 99, 22, 107, 23)
MOUTH_OPENING = (88, 81, 87), (88, 83, 40)
