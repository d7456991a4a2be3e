// Prints a page of the pod's neighbour.
(async () => console.log(await (await fetch("http://echo.shop.internal:8000/page")).text()))();
