/* Function words by language: sorted, one line each language, separated by spaces. Queries leave
 * them out when they hold other words; documents keep them, so phrases find them. */
#pragma once

struct stop_language {
    const char *language;
    const char *words;
};

static const struct stop_language stop_languages[] = {
    {"english",
     "a about above after again against all am an and any are aren't as at be because been before "
     "being below between both but by can cannot could couldn't did didn't do does doesn't doing "
     "don't down during each few for from further had hadn't has hasn't have haven't having he her "
     "here hers herself him himself his how i if in into is isn't it its itself let's me more most "
     "must my myself no nor not of off on once only or other ought our ours ourselves out over own "
     "same shall she should so some such than that the their theirs them themselves then there "
     "these they this those through to too under until up very was wasn't we were weren't what "
     "when where which while who whom why will with would you your yours yourself yourselves"},
    {"german",
     "aber alle allem allen aller alles als also am an ander andere auch auf aus bei bin bis bist "
     "da damit dann das dass dein deine dem den denn der des dich die dies diese diesem diesen "
     "dieser dieses dir doch dort du durch ein eine einem einen einer eines er es etwas euch euer "
     "für gegen habe haben hat hatte hatten hier hin hinter ich ihm ihn ihnen ihr ihre ihrem ihren "
     "ihrer im in ist ja jede jedem jeden jeder jedes kann kein keine können man mein meine mich "
     "mir mit nach nicht nichts noch nun nur ob oder ohne sehr sein seine seinem seinen seiner "
     "sich sie sind so soll sollte sondern um und uns unser unter viel vom von vor war waren warst "
     "was weil welche welchem welchen welcher welches wenn werde werden wie wieder will wir wird "
     "wo wurde wurden während zu zum zur zwischen über"},
    {"french",
     "ai as au aux avec c ce ces cet cette d dans de des donc du elle elles en est et eu eux il "
     "ils j je l la le les leur leurs lui m ma mais me mes moi mon n ne nos notre nous on ont ou "
     "où par pas pour qu que quel quelle quels qui s sa se ses si son sont sur t ta te tes toi ton "
     "tu un une vos votre vous y à été étaient était être"},
    {"spanish",
     "a al algo ante antes aunque como con contra cual cuando de del desde donde durante e el ella "
     "ellas ellos en entre era es esa esas ese eso esos esta estas este esto estos está están fue "
     "ha han hasta hay la las le les lo los me mi mis muy más ni no nos nosotros o os otra otro "
     "para pero por porque que quien qué se ser si sido sin sobre son su sus sí también tan te "
     "tiene tu un una unas uno unos y ya yo él"},
    {"italian",
     "a ad agli ai al alla alle allo anche c che chi ci co col come con contro cui d da dagli dai "
     "dal dalla dalle dallo degli dei del della delle dello di dove e ed era fra gli ha hanno ho i "
     "il in io l la le lei li lo loro lui ma mi mia mio ne negli nei nel nella nelle nello noi non "
     "nostra nostro o per perché più quale quando quanto quella quelle quelli quello questa queste "
     "questi questo se sei si sia siamo sono su sua sue sugli sui sul sulla sulle suo suoi ti tra "
     "tu tua tuo un una uno vi voi è"},
    {"portuguese",
     "a ao aos as até com como da das de dela dele deles depois do dos e ela elas ele eles em "
     "entre era essa esse esta este eu foi foram há isso isto já lhe mais mas me mesmo meu minha "
     "muito na nas nem no nos nossa nosso não nós o os ou para pela pelas pelo pelos por qual "
     "quando que quem se sem ser seu seus sua suas são só também te tem tu um uma umas uns você "
     "vocês à às é"},
    {"dutch",
     "aan al alles als altijd andere ben bij daar dan dat de der deze die dit doch doen door dus "
     "een eens en er ge geen haar had heb hebben heeft hem het hier hij hoe hun iemand iets ik in "
     "is ja je kan kon kunnen maar me meer men met mij mijn moet na naar niet niets nog nu of om "
     "omdat onder ons ook op over reeds te tegen toch toen tot u uit uw van veel voor want waren "
     "was wat werd wezen wie wil worden wordt zal ze zelf zich zij zijn zo zonder zou"},
};
